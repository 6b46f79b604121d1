//go:build linux

package main

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// stopSignals is how a person ends a run: the first SIGINT or SIGTERM closes
// stop, the second ends the Keep and this process at once. A write to a pipe
// whose reader is gone gives an error and does not end this process, so that the
// Keep is ended in order.
type stopSignals struct {
	stop  chan struct{}
	first atomic.Int32
	kill  atomic.Pointer[func()] // what the second signal does before the end
	ch    chan os.Signal
	done  chan struct{}
}

func catchSignals() *stopSignals {
	s := &stopSignals{stop: make(chan struct{}), ch: make(chan os.Signal, 4), done: make(chan struct{})}
	signal.Notify(s.ch, os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	go s.watch()
	return s
}

func (s *stopSignals) watch() {
	for {
		select {
		case <-s.done:
			return
		case sig := <-s.ch:
			number, ok := sig.(syscall.Signal)
			if !ok || number == syscall.SIGPIPE {
				continue
			}
			if s.first.CompareAndSwap(0, int32(number)) {
				close(s.stop)
				continue
			}
			if kill := s.kill.Load(); kill != nil {
				(*kill)()
			}
			os.Exit(128 + int(number))
		}
	}
}

// onSecond says what to end when the second signal comes.
func (s *stopSignals) onSecond(kill func()) { s.kill.Store(&kill) }

// name is the first signal.
func (s *stopSignals) name() syscall.Signal { return syscall.Signal(s.first.Load()) }

func (s *stopSignals) release() {
	signal.Stop(s.ch)
	close(s.done)
}
