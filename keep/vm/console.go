package vm

import (
	"bytes"
	"strings"
	"sync"
)

// A console keeps the last of what QEMU and the guest print outside the link, and
// watches it for the stages that the first process names (warden/boot). It is
// read always, so that a guest that floods it can neither block nor fill anything.
type console struct {
	mu     sync.Mutex
	tail   []byte
	line   []byte // the unfinished one
	stages map[string]chan struct{}
	guest  bool
}

const (
	consoleBytes = 8 << 10
	consoleLines = 12
	lineBytes    = 512
	stagePrefix  = "donjon-keep: stage "
	panicMark    = "Kernel panic - not syncing"
)

func newConsole() *console {
	c := &console{stages: map[string]chan struct{}{}}
	for _, s := range []string{"init", "link"} {
		c.stages[s] = make(chan struct{})
	}
	return c
}

// reached gives a channel that is closed when the guest names the stage.
func (c *console) reached(stage string) <-chan struct{} { return c.stages[stage] }

// spoke says whether a line came from inside the machine, as far as that can be
// told: QEMU's own begin with its name.
func (c *console) spoke() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guest
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	if over := len(c.tail) - consoleBytes; over > 0 {
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		part := rest
		if i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		c.line = append(c.line, part[:min(len(part), lineBytes-len(c.line))]...)
		if i >= 0 {
			c.full(string(c.line))
			c.line = c.line[:0]
		}
	}
	return len(p), nil
}

func (c *console) full(line string) {
	line = strings.TrimRight(line, "\r")
	if !strings.HasPrefix(line, "qemu") {
		c.guest = true
	}
	_, stage, ok := strings.Cut(line, stagePrefix)
	if ch, known := c.stages[stage]; ok && known {
		select {
		case <-ch:
		default:
			close(ch)
		}
	}
}

func (c *console) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.TrimRight(strings.ReplaceAll(string(c.tail), "\r", ""), "\n")
	if s == "" {
		return nil
	}
	l := strings.Split(s, "\n")
	// Behind a panic of the kernel stand its registers, which push what matters out
	// of sight.
	for i, line := range l {
		if strings.Contains(line, panicMark) {
			l = l[:i+1]
			break
		}
	}
	return l[max(0, len(l)-consoleLines):]
}
