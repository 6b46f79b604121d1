package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// prober holds what several technologies ask about, so that it is asked once.
type prober struct {
	ctx         context.Context
	h           *Host
	cpuinfoText []byte
	qemus       map[string]qemuInfo
}

var errUnknown = errors.New("cannot be found out here")

func (p *prober) read(path string, limit int) ([]byte, error) {
	if p.h.ReadFile == nil {
		return nil, errUnknown
	}
	return p.h.ReadFile(path, limit)
}

// word is a small file's content without the space around it, or "".
func (p *prober) word(path string) string {
	b, err := p.read(path, 4096)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (p *prober) exists(path string) bool {
	if p.h.Stat == nil {
		return false
	}
	_, err := p.h.Stat(path)
	return err == nil
}

func (p *prober) system() System {
	s := System{OS: p.h.OS, Kernel: p.h.Kernel, Arch: p.h.Arch, CPU: p.brand()}
	switch {
	case p.exists("/dev/sev-guest"):
		s.Guest = "snp"
	case p.exists("/dev/tdx_guest"):
		s.Guest = "tdx"
	case p.word("/sys/devices/system/cpu/svm") == "1":
		s.Guest = "pef"
	default:
		// CPUID.1:ECX[31] is the bit that hypervisors set and processors never do.
		if r, ok := p.leaf(1, 0); ok && r.ECX>>31 == 1 {
			s.Guest = "vm"
		}
	}
	return s
}

// list collects the checks of one backend. The methods return whether the check
// passed, so that a check can stand on the one before it.
type list struct{ checks []Check }

func (l *list) add(c Check) bool {
	l.checks = append(l.checks, c)
	return c.Status == Passed
}

// is adds a required check of a condition.
func (l *list) is(ok bool, c Check) bool {
	c.Required = true
	return l.may(ok, c)
}

// may adds a check that is not required.
func (l *list) may(ok bool, c Check) bool {
	c.Status = Failed
	if ok {
		c.Status = Passed
	}
	return l.add(c)
}

// unless adds a required check that could not be made because of reason.
func (l *list) unless(reason string, c Check) bool {
	c.Status, c.Required, c.Found = NotMade, true, reason
	return l.add(c)
}

// launches adds the check that this build can launch the backend at all.
func (p *prober) launches(l *list, name string) bool {
	return l.is(slices.Contains(p.h.Launches, name), Check{
		Code: name + "-backend", Title: "this donjon can launch it",
		Found:  yesNo(slices.Contains(p.h.Launches, name)),
		Wanted: "yes", Source: "this build",
		Hint: "this version looks at the machine but cannot launch " + name + " Keeps yet",
	})
}

// arch adds the check that the processor is of the wanted kind.
func (p *prober) arch(l *list, name, want string) bool {
	return l.is(p.h.Arch == want, Check{
		Code: name + "-arch", Title: "processor architecture", Found: p.h.Arch, Wanted: want,
		Source: "this build", Hint: name + " exists on " + want + " alone",
	})
}

// kernel adds the check that the host kernel is at least major.minor.
func (p *prober) kernel(l *list, name string, major, minor int, why string) bool {
	got, ok := parseVersion(p.h.Kernel)
	found := p.h.Kernel
	if found == "" {
		found = "unknown"
	}
	return l.is(ok && !got.less(version{major, minor}), Check{
		Code: name + "-kernel", Title: "host kernel", Found: found,
		Wanted: fmt.Sprintf("%d.%d or newer (%s)", major, minor, why), Source: "uname",
		Hint: "install a newer kernel; distributions may have the feature in older ones too",
	})
}

// device adds the check that a device file is there and may be opened for a.
func (p *prober) device(l *list, c Check, path string, a Access) bool {
	c.Source = path
	err := errUnknown
	if p.h.Access != nil {
		err = p.h.Access(path, a)
	}
	switch {
	case err == nil:
		c.Found = "may be opened"
	case errors.Is(err, fs.ErrNotExist):
		c.Found = "not there"
	case errors.Is(err, fs.ErrPermission):
		c.Found = "there, but this user may not open it"
		c.Hint = "add the user to the device's group (ls -l " + path + ") or adjust its mode"
	default:
		c.Found = reason(err)
	}
	if c.Required {
		return l.is(err == nil, c)
	}
	return l.may(err == nil, c)
}

// kvm adds the checks of /dev/kvm: it opens, and speaks API version 12, the only
// one since Linux 2.6.22 (Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION).
func (p *prober) kvm(l *list, name string, required bool) bool {
	ok := p.device(l, Check{
		Code: name + "-kvm", Title: "KVM", Required: required,
		Wanted: "may be opened for reading and writing",
		Hint:   "load kvm_intel, kvm_amd or kvm_hv; in a virtual machine ask for nested virtualization",
	}, "/dev/kvm", Read|Write)
	c := Check{
		Code: name + "-kvm-api", Title: "KVM API version", Required: required,
		Wanted: "12", Source: "KVM_GET_API_VERSION", Hint: "this is no Linux KVM that QEMU can use",
	}
	if !ok || p.h.KVMVersion == nil {
		c.Status, c.Found, c.Hint = NotMade, "no KVM", ""
		return l.add(c)
	}
	v, err := p.h.KVMVersion()
	if err != nil {
		c.Found = reason(err)
	} else {
		c.Found = strconv.Itoa(v)
	}
	if required {
		return l.is(err == nil && v == 12, c)
	}
	return l.may(err == nil && v == 12, c)
}

// moduleParameter says whether a kernel module's switch is on, and what was seen.
func (p *prober) moduleParameter(module, name string) (bool, string) {
	switch v := p.word("/sys/module/" + module + "/parameters/" + name); v {
	case "Y", "y", "1":
		return true, "on"
	case "":
		return false, "the module " + module + " is not loaded or has no such switch"
	default:
		return false, "off (" + v + ")"
	}
}

// version is major and minor; what follows does not matter to any check here.
type version struct{ major, minor int }

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// parseVersion reads the leading "major.minor" of a release string. Numbers of
// more than six digits are refused.
func parseVersion(s string) (version, bool) {
	var v version
	rest, ok := number(s, &v.major)
	if !ok || !strings.HasPrefix(rest, ".") {
		return version{}, false
	}
	if _, ok = number(rest[1:], &v.minor); !ok {
		return version{}, false
	}
	return v, true
}

func number(s string, into *int) (rest string, ok bool) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 || n > 6 {
		return s, false
	}
	v, err := strconv.Atoi(s[:n])
	*into = v
	return s[n:], err == nil
}

// reason is an error in one short line: paths are in Source already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	s, _, _ := strings.Cut(err.Error(), "\n")
	if len(s) > 200 {
		s = s[:200]
	}
	return s
}

func yesNo(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}
