package workload

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func checkLimits(c *Config, l rawLimits) (err error) {
	if c.Limits.Memory, err = ParseSize(l.Memory); err != nil {
		return fmt.Errorf("limits.memory: %w", err)
	}
	if c.Limits.Output, err = ParseSize(l.Output); err != nil {
		return fmt.Errorf("limits.output: %w", err)
	}
	if c.Limits.CPUTime, err = parseDuration(l.CPUTime); err != nil {
		return fmt.Errorf("limits.cpu_time: %w", err)
	}
	if c.Limits.WallTime, err = parseDuration(l.WallTime); err != nil {
		return fmt.Errorf("limits.wall_time: %w", err)
	}
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf(`found %q, wanted a time above 0 such as "10s" or "1m30s"`, s)
	}
	return d, nil
}

// ParseSize reads a number of bytes such as "64MiB", "1GiB", "500kB" or "4096".
// "" is 0.
func ParseSize(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	units := []struct {
		name string
		n    uint64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 44)
		if err != nil || n == 0 || n > maxSize/u.n {
			break
		}
		return n * u.n, nil
	}
	return 0, fmt.Errorf(`found %q, wanted a size above 0 and at most 16384GiB, such as "64MiB" or "1GiB"`, s)
}
