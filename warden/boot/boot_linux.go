package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PortName is the name QEMU gives the link's virtio-serial port.
const PortName = "donjon.link"

const (
	portWait = 20 * time.Second // for the port to appear; an emulated machine under load needs 1
	maxList  = 4096             // bytes of /mods/order and of a port's name
)

// IsInit says whether this process is a virtual machine's first: process 1, run
// as /init without arguments.
func IsInit(args []string) bool {
	return os.Getpid() == 1 && len(args) == 1 && args[0] == "/init"
}

// Run makes the machine usable and opens the link. The file it gives is at
// position 3 or later, close-on-exec and known to the runtime's poller. Each stage
// is named on the console, where the host reads how far a Keep came.
func Run() (*os.File, error) {
	if err := mountAll(); err != nil {
		return nil, err
	}
	if err := stdio(); err != nil {
		return nil, err
	}
	// The console is for words, not for orders (THREATS T18). A kernel without these
	// keys has no such file.
	_ = os.WriteFile("/proc/sys/kernel/sysrq", []byte("0"), 0)
	Stage("init")
	if err := loadModules("/mods"); err != nil {
		return nil, err
	}
	port, err := findPort("/sys/class/virtio-ports", portWait)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join("/dev", port), os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("boot: opening the link: %w", err)
	}
	Stage("link")
	return f, nil
}

// Stage says on the console how far the machine has come.
func Stage(name string) { fmt.Fprintf(os.Stderr, "donjon-keep: stage %s\n", name) }

func mountAll() error {
	for _, m := range []struct {
		kind, dir, data string
		flags           uintptr
	}{
		{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"proc", "/proc", "hidepid=2", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
		{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
		{"tmpfs", "/tmp", "mode=0700", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		err := unix.Mount(m.kind, m.dir, m.kind, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) { // busy: mounted already
			return fmt.Errorf("boot: mounting %s on %s: %w", m.kind, m.dir, err)
		}
	}
	return nil
}

// stdio makes sure that positions 0 to 2 are taken: the console, or nothing. The
// kernel leaves them closed when it has no console.
func stdio() error {
	for fd := 0; fd <= 2; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			continue
		}
		got, err := unix.Open("/dev/null", unix.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("boot: opening /dev/null: %w", err)
		}
		if got > 2 { // cannot be: the lowest free position is given
			_ = unix.Close(got)
		}
	}
	return nil
}

// loadModules loads what /mods/order lists; there is none where the kernel has all
// built in.
func loadModules(dir string) error {
	list, err := os.ReadFile(filepath.Join(dir, "order"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	if len(list) > maxList {
		return fmt.Errorf("boot: %s/order: more than %d bytes", dir, maxList)
	}
	for _, name := range strings.Fields(string(list)) {
		f, err := os.Open(filepath.Join(dir, filepath.Base(name)))
		if err != nil {
			return fmt.Errorf("boot: %w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("boot: loading module %s: %w", name, err)
		}
	}
	// Nobody needs them again, and their memory is the root file system's.
	_ = os.RemoveAll(dir)
	return nil
}

// findPort waits for a virtio-serial port of the link's name and gives its
// device's name.
func findPort(class string, wait time.Duration) (string, error) {
	deadline := time.Now().Add(wait)
	for {
		if port := portNamed(class, PortName); port != "" {
			return port, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("boot: no virtio-serial port named %s after %v", PortName, wait)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func portNamed(class, want string) string {
	ports, err := os.ReadDir(class)
	if err != nil {
		return ""
	}
	for _, p := range ports {
		b, err := os.ReadFile(filepath.Join(class, p.Name(), "name"))
		if err == nil && len(b) <= maxList && strings.TrimSpace(string(b)) == want {
			return p.Name()
		}
	}
	return ""
}

// Reap collects children that ended and whose parent is gone, until stop is
// closed: the first process inherits them. It leaves alone the children named in
// mine, which somebody here waits for.
func Reap(stop <-chan struct{}, mine ...int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			reapOnce(mine)
		}
	}
}

// siginfoPID is where si_pid lies in siginfo_t on a 64-bit machine, for SIGCHLD:
// behind three 32-bit words and their padding.
const siginfoPID = 16

func reapOnce(mine []int) {
	for range 64 {
		// Look without collecting, so that nobody's child is taken from him.
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		pid := int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), siginfoPID)))
		if err != nil || pid <= 0 {
			return
		}
		for _, m := range mine {
			if m == pid {
				return
			}
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// PowerOff ends the machine; it does not return. What is in memory goes with it.
func PowerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// No way to switch off: a reset ends QEMU as well (-no-reboot).
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	// A sandboxed first process may do neither. Its end is a kernel panic, which
	// resets the machine at once (panic=-1).
	os.Exit(0)
}
