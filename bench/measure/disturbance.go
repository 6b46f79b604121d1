//go:build linux

package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mostOthers is the share of the machine that other programs may use while a row
// is measured. Above it no bar is said to be met.
const mostOthers = 0.05

// A clock is a moment of the machine: time, processor time of all programs (what
// a hypervisor took from it too), and of this one with those it waited for.
type clock struct {
	at       time.Time
	all, own time.Duration
}

func readClock() (clock, bool) {
	c := clock{at: time.Now()}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, false
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return c, false
	}
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return c, false
		}
		c.all += time.Duration(n) * (time.Second / 100) // USER_HZ
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			return c, false
		}
		c.own += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return c, true
}

// others is the share of cpus processors that was used between two moments by
// none of ours.
func others(from, to clock, cpus int) float64 {
	passed := to.at.Sub(from.at)
	if passed <= 0 {
		return 1
	}
	return max(0, float64((to.all-from.all)-(to.own-from.own))/float64(passed)/float64(cpus))
}
