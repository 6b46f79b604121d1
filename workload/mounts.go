package workload

import (
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
)

func checkMounts(c *Config, raw *rawConfig) error {
	if len(raw.Data) > maxNamed || len(raw.Scratch) > maxMembers || len(raw.HostDirs) > maxMembers {
		return errors.New("too many data, scratch or host_dirs entries")
	}
	for _, m := range raw.Data {
		if !local(m.Path) {
			return fmt.Errorf("data: path: found %q, wanted a clean relative path inside the workload's folder", m.Path)
		}
		if m.Size != "" {
			return errors.New("data: a measured folder has no size")
		}
		c.Data = append(c.Data, Data{Path: m.Path, Guest: m.Guest})
	}
	for _, m := range raw.Scratch {
		size, err := ParseSize(m.Size)
		if err != nil || m.Path != "" {
			return errors.Join(errors.New("scratch: guest and size alone"), err)
		}
		if size == 0 {
			size = 64 << 20
		}
		c.Scratch = append(c.Scratch, Scratch{Guest: m.Guest, Size: size})
	}
	for _, m := range raw.HostDirs {
		if m.Path != "" || m.Size != "" {
			return errors.New("host_dirs: guest alone; which folder it is belongs on the command line (--dir HOST::GUEST)")
		}
		c.HostDirs = append(c.HostDirs, HostDir{Guest: m.Guest})
	}
	var guests []string
	for _, d := range c.Data {
		guests = append(guests, d.Guest)
	}
	for _, s := range c.Scratch {
		guests = append(guests, s.Guest)
	}
	for _, g := range guests {
		if !path.IsAbs(g) || path.Clean(g) != g || g == "/" {
			return fmt.Errorf("guest: found %q, wanted a clean absolute path below /", g)
		}
	}
	for _, h := range c.HostDirs {
		if h.Guest == "" {
			return errors.New("host_dirs: guest is empty")
		}
		guests = append(guests, h.Guest)
	}
	sort.Strings(guests)
	for i := 1; i < len(guests); i++ {
		if guests[i] == guests[i-1] {
			return fmt.Errorf("guest: %q is mounted twice", guests[i])
		}
	}
	for _, p := range c.Paths() {
		if !local(p.Path) {
			return fmt.Errorf("found the path %q, wanted a clean relative path inside the workload's folder", p.Path)
		}
	}
	return nil
}

// local says whether a path is clean, relative and stays inside its folder.
func local(p string) bool {
	return p != "" && len(p) <= 4096 && path.Clean(p) == p && !path.IsAbs(p) && p != "." && p != ".." &&
		!strings.HasPrefix(p, "../") && !strings.ContainsAny(p, "\\\x00")
}
