package platform

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a host as a table.
type machine struct {
	arch, kernel string
	cpuid        map[[2]uint32]Regs
	files        map[string]string
	devices      map[string]error // what opening them gives
	dirs         map[string][]string
	programs     map[string]map[string]string // program: arguments: output
	kvm          int
	memlock      uint64
	landlock     int
	userns       error
	noNewPrivs   error
}

func (m machine) host(launches ...string) *Host {
	h := &Host{
		OS: "linux", Arch: m.arch, Kernel: m.kernel, Launches: launches,
		ReadFile: func(p string, limit int) ([]byte, error) {
			s, ok := m.files[p]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return []byte(s)[:min(len(s), limit)], nil
		},
		List: func(dir string) ([]string, error) {
			names, ok := m.dirs[dir]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return names, nil
		},
		Stat: func(p string) (fs.FileInfo, error) {
			_, isDir := m.dirs[p]
			_, isFile := m.files[p]
			_, isDevice := m.devices[p]
			if !isDir && !isFile && !isDevice {
				return nil, fs.ErrNotExist
			}
			return nil, nil
		},
		Access: func(p string, _ Access) error {
			err, ok := m.devices[p]
			if !ok {
				return fs.ErrNotExist
			}
			return err
		},
		LookPath: func(p string) (string, error) {
			if _, ok := m.programs[p]; !ok {
				return "", errors.New("not found")
			}
			return p, nil
		},
		Run: func(_ context.Context, p string, args ...string) ([]byte, error) {
			out, ok := m.programs[p][strings.Join(args, " ")]
			if !ok {
				return nil, errors.New("exit status 1")
			}
			return []byte(out), nil
		},
		Now:           func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) },
		KVMVersion:    func() (int, error) { return m.kvm, nil },
		LandlockABI:   func() (int, error) { return m.landlock, nil },
		UserNamespace: func(context.Context) error { return m.userns },
		NoNewPrivs:    func() error { return m.noNewPrivs },
		Memlock:       func() (uint64, error) { return m.memlock, nil },
	}
	if m.cpuid != nil {
		h.CPUID = func(leaf, sub uint32) Regs { return m.cpuid[[2]uint32{leaf, sub}] }
	}
	return h
}

// name packs text the way CPUID gives it.
func name(s string) (r Regs) {
	b := make([]byte, 16)
	copy(b, s)
	w := func(i int) uint32 {
		return uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16 | uint32(b[i+3])<<24
	}
	return Regs{w(0), w(4), w(8), w(12)}
}

func vendorLeaf(last uint32, v string) Regs {
	n := name(v)
	return Regs{EAX: last, EBX: n.EAX, EDX: n.EBX, ECX: n.ECX}
}

// The values of leaf 8000001F are a Milan's: C-bit 51, 5 bits less, 4 VMPLs,
// 509 guests, SEV from ASID 100 on.
func milan() machine {
	return machine{
		arch: "amd64", kernel: "6.12.1-amd64", kvm: 12, memlock: 50 << 20, landlock: 4,
		cpuid: map[[2]uint32]Regs{
			{0, 0}:          vendorLeaf(16, "AuthenticAMD"),
			{1, 0}:          {EAX: 0x00a00f11, ECX: 1 << 30},
			{7, 0}:          {EBX: 1},
			{0x80000000, 0}: {EAX: 0x80000023},
			{0x80000002, 0}: name("AMD EPYC 7313P 1"),
			{0x80000003, 0}: name("6-Core Processor"),
			{0x80000004, 0}: name(""),
			{0x8000001f, 0}: {EAX: 0x1f, EBX: 51 | 5<<6 | 4<<12, ECX: 509, EDX: 100},
		},
		files: map[string]string{
			"/sys/module/kvm_amd/parameters/sev_snp":  "Y\n",
			"/usr/share/qemu/firmware/60-amdsev.json": `{"mapping":{"device":"memory","filename":"/usr/share/OVMF.amdsev.fd"},"features":["amd-sev","amd-sev-snp"]}`,
			"/proc/sys/kernel/seccomp/actions_avail":  "kill_process kill_thread errno allow\n",
		},
		devices: map[string]error{"/dev/sev": nil, "/dev/kvm": nil},
		dirs: map[string][]string{
			"/usr/share/qemu/firmware": {"60-amdsev.json", "README"},
			"/var/cache/amd-sev":       {"vcek-00"},
		},
		programs: map[string]map[string]string{"qemu-system-x86_64": {
			"--version":    "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003-2025\n",
			"-object help": "List of user creatable objects:\n  memory-backend-memfd\n  sev-snp-guest\n",
		}},
	}
}

func emerald() machine {
	m := milan()
	m.kernel = "6.17.0"
	m.cpuid = map[[2]uint32]Regs{
		{0, 0}:          vendorLeaf(0x20, "GenuineIntel"),
		{1, 0}:          {EAX: 0x000c06f2},
		{7, 0}:          {EBX: 1 << 2, ECX: 1 << 30},
		{0x12, 0}:       {EAX: 3, EBX: 1, EDX: 0x381f},
		{0x12, 1}:       {EAX: 0xb6, ECX: 0x2e7},
		{0x12, 2}:       {EAX: 1, ECX: 0x8000_0001, EDX: 1}, // 6 GiB
		{0x12, 3}:       {EAX: 1, ECX: 0x4000_0001},         // 1 GiB
		{0x80000000, 0}: {EAX: 0x80000008},
		{0x80000002, 0}: name("INTEL(R) XEON(R)"),
		{0x80000003, 0}: name(" GOLD 6530"),
		{0x80000004, 0}: name(""),
	}
	m.files = map[string]string{
		"/proc/cpuinfo":                          "processor\t: 0\nflags\t\t: fpu sgx tme tdx_host_platform\n",
		"/sys/module/kvm_intel/parameters/tdx":   "Y",
		"/etc/qemu/firmware/tdvf.json":           `{"mapping":{"executable":{"filename":"/usr/share/TDVF.fd"}},"features":["intel-tdx"]}`,
		"/proc/sys/kernel/seccomp/actions_avail": "kill_process",
		"/var/run/aesmd/aesm.socket":             "",
		"/var/run/tdx-qgs/qgs.socket":            "",
	}
	m.dirs = map[string][]string{"/etc/qemu/firmware": {"tdvf.json"}, "/var/cache/intel-sgx": {"fmspc.txt", "tcb.der"}}
	m.devices = map[string]error{"/dev/kvm": nil, "/dev/sgx_enclave": nil, "/dev/sgx_provision": fs.ErrPermission}
	m.programs = map[string]map[string]string{"qemu-system-x86_64": {
		"--version": "QEMU emulator version 10.1.0\n", "-object help": "List of user creatable objects:\n  tdx-guest\n",
	}}
	return m
}

func power9() machine {
	return machine{
		arch: "ppc64le", kernel: "5.10.0-ppc64le", kvm: 12, landlock: 0,
		files: map[string]string{
			"/proc/cpuinfo":                          "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nrevision\t: 2.3 (pvr 004e 1203)\n",
			"/proc/sys/kernel/seccomp/actions_avail": "kill_process",
		},
		devices: map[string]error{"/dev/kvm": nil, "/dev/tpmrm0": nil},
		dirs:    map[string][]string{"/sys/firmware/ultravisor": nil},
		programs: map[string]map[string]string{"qemu-system-ppc64": {
			"--version": "QEMU emulator version 7.2.22", "-object help": "List:\n  pef-guest\n",
		}},
	}
}

func TestReady(t *testing.T) {
	all := []string{"snp", "tdx", "sgx", "pef", "vm", "sim"}
	for _, tt := range []struct {
		name     string
		machine  machine
		launches []string
		want     string
	}{
		{"a Milan set up for SNP", milan(), all, "snp sim"},
		{"the same, with apt-get for a guest kernel", with(milan(), func(m *machine) { m.programs["apt-get"] = nil }), all, "snp vm sim"},
		{"a build that launches vm and sim alone", milan(), []string{"vm", "sim"}, "sim"},
		{"an Emerald Rapids set up for TDX and SGX", emerald(), all, "tdx sgx sim"},
		{"a POWER9 with an ultravisor", power9(), all, "pef sim"},
		{"POWER9 DD2.2", with(power9(), func(m *machine) {
			m.files["/proc/cpuinfo"] = "revision\t: 2.2 (pvr 004e 1202)\n"
		}), all, "sim"},
		{"SNP is off in the kernel", with(milan(), func(m *machine) { m.files["/sys/module/kvm_amd/parameters/sev_snp"] = "N" }), all, "sim"},
		{"the kernel is too old for SNP", with(milan(), func(m *machine) { m.kernel = "6.1.0-50-amd64" }), all, "sim"},
		{"/dev/sev may not be opened", with(milan(), func(m *machine) { m.devices["/dev/sev"] = fs.ErrPermission }), all, "sim"},
		{"QEMU is new but built without SNP", with(milan(), func(m *machine) {
			m.programs["qemu-system-x86_64"]["-object help"] = "List:\n  sev-guest\n"
		}), all, "sim"},
		{"a Rome, which has SEV-ES and no SNP", with(milan(), func(m *machine) {
			m.cpuid[[2]uint32{1, 0}] = Regs{EAX: 0x00830f10}
			m.cpuid[[2]uint32{0x8000001f, 0}] = Regs{EAX: 0x0f, EBX: 47 | 5<<6, ECX: 509, EDX: 100}
		}), all, "sim"},
		{"SGX1 alone", with(emerald(), func(m *machine) { m.cpuid[[2]uint32{0x12, 0}] = Regs{EAX: 1, EDX: 0x381f} }), all, "tdx sim"},
		{"no EPC", with(emerald(), func(m *machine) { delete(m.cpuid, [2]uint32{0x12, 2}) }), all, "tdx sim"},
		{"no seccomp", with(milan(), func(m *machine) { delete(m.files, "/proc/sys/kernel/seccomp/actions_avail") }), all, "snp"},
		{"no no_new_privs", with(milan(), func(m *machine) { m.noNewPrivs = fs.ErrInvalid }), all, "snp"},
		{"no namespaces and no Landlock", with(milan(), func(m *machine) { m.userns, m.landlock = fs.ErrPermission, 0 }), all, "snp sim"},
		{"nothing at all", machine{arch: "amd64"}, all, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ready []string
			for _, b := range Probe(context.Background(), tt.machine.host(tt.launches...)).Backends {
				if b.Ready {
					ready = append(ready, b.Name)
				}
			}
			if got := strings.Join(ready, " "); got != tt.want {
				t.Errorf("found ready %q, wanted %q", got, tt.want)
			}
		})
	}
}

func with(m machine, change func(*machine)) machine { change(&m); return m }

func check(t *testing.T, r Report, code string) Check {
	t.Helper()
	for _, b := range r.Backends {
		for _, c := range b.Checks {
			if c.Code == code {
				return c
			}
		}
	}
	t.Fatalf("no check has the code %s", code)
	return Check{}
}

// Enarx prints 51 and 19 where CPUID says 5 and 51 (enarx/enarx#2263): both
// fields were masked wrongly.
func TestFound(t *testing.T) {
	amd := Probe(context.Background(), milan().host())
	intel := Probe(context.Background(), emerald().host())
	power := Probe(context.Background(), power9().host())
	for _, tt := range []struct {
		report Report
		code   string
		status Status
		found  string
	}{
		{amd, "snp-cpu", Passed, "AuthenticAMD AMD EPYC 7313P 16-Core Processor"},
		{amd, "snp-cpu-generation", Passed, "family 19h, model 1h, stepping 1: Milan"},
		{amd, "snp-cpu-cbit", Passed, "51"},
		{amd, "snp-cpu-reduction", Passed, "5"},
		{amd, "snp-cpu-vmpl", Passed, "4"},
		{amd, "snp-cpu-guests", Passed, "509"},
		{amd, "snp-cpu-asid", Passed, "100"},
		{amd, "snp-cpu-flush", Passed, "yes"},
		{amd, "snp-memlock", Passed, "50 MiB, enough for 10 Keeps"},
		{amd, "snp-qemu", Passed, "10.0.2"},
		{amd, "snp-firmware", Passed, "/usr/share/OVMF.amdsev.fd"},
		{amd, "snp-vcek-cache", Passed, "vcek-00"},
		{amd, "snp-crl-cache", Failed, "not there"},
		{amd, "tdx-cpu", Failed, "AuthenticAMD AMD EPYC 7313P 16-Core Processor"},
		{amd, "tdx-cpu-host", NotMade, "no Intel processor"},
		{amd, "sgx-epc", NotMade, "no SGX"},
		{amd, "pef-arch", Failed, "amd64"},
		{amd, "sim-landlock", Passed, "ABI 4"},
		{amd, "vm-cpu-rdrand", Passed, "yes"},
		{amd, "vm-cpu-fsgsbase", Passed, "yes"},
		{intel, "vm-cpu-rdrand", Failed, "no"},
		{intel, "sgx-cpu-max32", Passed, "2 GiB"},
		{intel, "sgx-cpu-max64", Passed, "65536 TiB"},
		{intel, "sgx-cpu-features", Passed, "0x00000000000000b6"},
		{intel, "sgx-cpu-xfrm", Passed, "0x00000000000002e7"},
		{intel, "sgx-epc", Passed, "7 GiB"},
		{intel, "sgx-provision", Failed, "there, but this user may not open it"},
		{intel, "sgx-tcb-cache", Passed, "tcb.der"},
		{intel, "snp-cpu-sev", NotMade, "no such CPUID leaf"},
		{power, "pef-cpu", Passed, "PVR 0x004e1203"},
		{power, "snp-cpu", Failed, "POWER9, altivec supported"},
	} {
		c := check(t, tt.report, tt.code)
		if c.Status != tt.status || c.Found != tt.found {
			t.Errorf("%s: found %s %q, wanted %s %q", tt.code, c.Status, c.Found, tt.status, tt.found)
		}
		if c.Status == Passed && c.Hint != "" {
			t.Errorf("%s: passed, and yet a hint: %s", tt.code, c.Hint)
		}
	}
}

// Every check must be usable by programs and people: codes are unique, and what
// failed says where it was looked up and what to do.
func TestForm(t *testing.T) {
	for name, m := range map[string]machine{"milan": milan(), "emerald": emerald(), "power9": power9(), "empty": {arch: "arm64"}} {
		r := Probe(context.Background(), m.host())
		var codes, names []string
		for _, b := range r.Backends {
			names = append(names, b.Name)
			if b.TEE == (b.Name == "vm" || b.Name == "sim") {
				t.Errorf("%s: %s: tee is %v", name, b.Name, b.TEE)
			}
			if !b.TEE && !strings.HasPrefix(b.Note, "not a TEE") {
				t.Errorf("%s: %s does not say that it is no TEE: %q", name, b.Name, b.Note)
			}
			for _, c := range b.Checks {
				codes = append(codes, c.Code)
				if !strings.HasPrefix(c.Code, b.Name+"-") || c.Title == "" {
					t.Errorf("%s: %s: code %q, title %q", name, b.Name, c.Code, c.Title)
				}
				if c.Status == Failed && (c.Hint == "" || c.Source == "" || c.Found == "" || c.Required && c.Wanted == "") {
					t.Errorf("%s: %s failed with hint %q, source %q, wanted %q, found %q", name, c.Code, c.Hint, c.Source, c.Wanted, c.Found)
				}
			}
		}
		if want := []string{"snp", "tdx", "sgx", "pef", "vm", "sim"}; !slices.Equal(names, want) {
			t.Errorf("%s: found %v, wanted %v", name, names, want)
		}
		slices.Sort(codes)
		if n := len(slices.Compact(slices.Clone(codes))); n != len(codes) {
			t.Errorf("%s: %d codes, %d of them different", name, len(codes), n)
		}
	}
}

// A host of which nothing is known must give no pass by omission.
func TestUnknownIsNoPass(t *testing.T) {
	r := Probe(context.Background(), &Host{Arch: "amd64", Kernel: "6.18.0", Launches: []string{"snp", "tdx", "sgx", "pef", "vm", "sim"}})
	for _, b := range r.Backends {
		if b.Ready {
			t.Errorf("%s is ready on a host of which nothing is known", b.Name)
		}
	}
}

func TestGuest(t *testing.T) {
	for want, m := range map[string]machine{
		"":    milan(),
		"vm":  with(milan(), func(m *machine) { m.cpuid[[2]uint32{1, 0}] = Regs{ECX: 1 << 31} }),
		"snp": with(milan(), func(m *machine) { m.devices["/dev/sev-guest"] = nil }),
		"tdx": with(emerald(), func(m *machine) { m.devices["/dev/tdx_guest"] = nil }),
		"pef": with(power9(), func(m *machine) { m.files["/sys/devices/system/cpu/svm"] = "1\n" }),
	} {
		if got := Probe(context.Background(), m.host()).System.Guest; got != want {
			t.Errorf("found %q, wanted %q", got, want)
		}
	}
}

func TestNamespaceHintNamesTheSwitch(t *testing.T) {
	m := milan()
	m.userns = fs.ErrPermission
	m.files["/proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = "1"
	c := check(t, Probe(context.Background(), m.host()), "sim-namespaces")
	if c.Status != Failed || !strings.Contains(c.Hint, "apparmor_restrict_unprivileged_userns=0") {
		t.Errorf("found %s, hint %q", c.Status, c.Hint)
	}
}
