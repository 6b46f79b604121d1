package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Bounds on what QEMU and its firmware descriptions may say.
const (
	qemuTimeout    = 10 * time.Second
	maxDescriptors = 256
	maxDescriptor  = 64 << 10
)

// qemuInfo is what one QEMU program says about itself.
type qemuInfo struct {
	path    string
	version version
	text    string // the version as printed, "7.2.22"
	objects []string
	err     error
}

// qemuProgram is the system emulator for a Go architecture name.
func qemuProgram(arch string) string {
	switch arch {
	case "amd64":
		return "qemu-system-x86_64"
	case "arm64":
		return "qemu-system-aarch64"
	case "ppc64le":
		return "qemu-system-ppc64"
	}
	return "qemu-system-" + arch
}

// qemuPackage is Debian's and Ubuntu's package of that program.
func qemuPackage(arch string) string {
	switch arch {
	case "amd64":
		return "qemu-system-x86"
	case "arm64":
		return "qemu-system-arm"
	}
	return "qemu-system-ppc"
}

func (p *prober) qemu(arch string) qemuInfo {
	if q, ok := p.qemus[arch]; ok {
		return q
	}
	q := p.askQEMU(arch)
	if p.qemus == nil {
		p.qemus = map[string]qemuInfo{}
	}
	p.qemus[arch] = q
	return q
}

func (p *prober) askQEMU(arch string) (q qemuInfo) {
	if p.h.LookPath == nil || p.h.Run == nil {
		q.err = errUnknown
		return q
	}
	if q.path, q.err = p.h.LookPath(qemuProgram(arch)); q.err != nil {
		q.path = ""
		return q
	}
	ctx, cancel := context.WithTimeout(p.ctx, qemuTimeout)
	defer cancel()
	out, err := p.h.Run(ctx, q.path, "--version")
	if err != nil {
		q.err = err
		return q
	}
	var ok bool
	if q.text, q.version, ok = parseQEMUVersion(string(out)); !ok {
		q.err = fmt.Errorf("%s --version says nothing that is a version", q.path)
		return q
	}
	if out, err = p.h.Run(ctx, q.path, "-object", "help"); err == nil {
		q.objects = parseObjects(string(out))
	}
	return q
}

// parseQEMUVersion reads "QEMU emulator version 7.2.22 (Debian 1:7.2+…)".
func parseQEMUVersion(s string) (text string, v version, ok bool) {
	_, after, ok := strings.Cut(s, " version ")
	if !ok {
		return "", version{}, false
	}
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return "", version{}, false
	}
	v, ok = parseVersion(fields[0])
	return fields[0], v, ok
}

// parseObjects reads the list that "-object help" prints: a heading, then one
// name a line, indented.
func parseObjects(s string) []string {
	var names []string
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, " ") {
			names = append(names, strings.TrimSpace(line))
		}
	}
	return names
}

// qemuFor adds the checks that QEMU for arch is there, is new enough, and has the
// object type that a TEE needs ("" for none). The object list has the last word:
// distributions carry features before and behind their version.
func (p *prober) qemuFor(l *list, name, arch string, major, minor int, object string) bool {
	q := p.qemu(arch)
	c := Check{
		Code: name + "-qemu", Title: "QEMU for " + arch, Source: qemuProgram(arch),
		Wanted: fmt.Sprintf("%d.%d or newer", major, minor),
		Hint:   "install " + qemuPackage(arch),
	}
	switch {
	case q.path == "":
		c.Found = "not there"
	case q.err != nil:
		c.Found = reason(q.err)
	default:
		c.Found = q.text
		c.Source = q.path
		c.Hint = "install a newer QEMU"
	}
	ok := l.is(q.err == nil && !q.version.less(version{major, minor}), c)
	if object == "" {
		return ok
	}
	c = Check{
		Code: name + "-qemu-object", Title: "QEMU knows " + object,
		Wanted: "yes", Source: "-object help", Hint: "install a QEMU that is built with " + object,
	}
	if q.err != nil {
		return l.unless("no QEMU", c)
	}
	has := slices.Contains(q.objects, object)
	c.Found = yesNo(has)
	return l.is(has, c) && ok
}

// Folders of firmware descriptions (QEMU docs/interop/firmware.json), in the
// order of their precedence.
var firmwareFolders = [...]string{"/etc/qemu/firmware", "/usr/share/qemu/firmware"}

// firmwareFor adds the check that an installed firmware says that it boots a
// guest of this kind. feature is a FirmwareFeature: amd-sev-snp, intel-tdx.
func (p *prober) firmwareFor(l *list, name, feature, hint string) bool {
	found := p.findFirmware(feature)
	c := Check{
		Code: name + "-firmware", Title: "guest firmware for " + feature,
		Found: found, Wanted: "one that is built for it",
		Source: strings.Join(firmwareFolders[:], ", "), Hint: hint,
	}
	if found == "" {
		c.Found = "no installed firmware says so"
	}
	return l.is(found != "", c)
}

func (p *prober) findFirmware(feature string) string {
	if p.h.List == nil {
		return ""
	}
	for _, dir := range firmwareFolders {
		names, err := p.h.List(dir)
		if err != nil {
			continue
		}
		for _, n := range names[:min(len(names), maxDescriptors)] {
			if !strings.HasSuffix(n, ".json") {
				continue
			}
			b, err := p.read(path.Join(dir, n), maxDescriptor)
			if err != nil {
				continue
			}
			if file, ok := parseDescriptor(b, feature); ok {
				return file
			}
		}
	}
	return ""
}

// parseDescriptor gives the firmware file of a description that lists feature.
// Only the two fields asked for are read; the rest is not ours to judge.
func parseDescriptor(b []byte, feature string) (file string, ok bool) {
	var d struct {
		Mapping struct {
			Filename   string `json:"filename"`
			Executable struct {
				Filename string `json:"filename"`
			} `json:"executable"`
		} `json:"mapping"`
		Features []string `json:"features"`
	}
	if json.Unmarshal(b, &d) != nil || !slices.Contains(d.Features, feature) {
		return "", false
	}
	file = d.Mapping.Filename
	if file == "" {
		file = d.Mapping.Executable.Filename
	}
	return file, file != ""
}
