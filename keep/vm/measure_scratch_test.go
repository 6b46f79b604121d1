//go:build linux

package vm

import (
	"os"
	"sort"
	"testing"
	"time"
)

func TestScratchBoot(t *testing.T) {
	spec, o := bootable(t, "amd64")
	if k := os.Getenv("KEEPPROG"); k != "" {
		spec.KeepProgram = k
	}
	p, err := Prepare(t.Context(), spec, o)
	if err != nil { t.Fatal(err) }
	if os.Getenv("MEM") != "" {
		for m := uint64(160); m > 60; m -= 8 {
			p.MemoryMiB = m
			o.Times.Kernel = 25*time.Second
			mm, err := p.Launch(t.Context(), spec, o)
			if err != nil { t.Log(m, err); break }
			t.Log(m, "ok")
			mm.Kill(); mm.Wait()
		}
		return
	}
	var wall []int; var cpu []int
	for range 7 {
		t0 := time.Now()
		m, err := p.Launch(t.Context(), spec, o)
		if err != nil { t.Fatal(err) }
		wall = append(wall, int(time.Since(t0).Milliseconds()))
		m.Kill(); m.Wait()
		ps := m.(*machine).cmd.ProcessState
		cpu = append(cpu, int((ps.UserTime()+ps.SystemTime()).Milliseconds()))
	}
	sort.Ints(wall); sort.Ints(cpu)
	t.Log("wall", wall, "cpu", cpu)
}
