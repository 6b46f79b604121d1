package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// packages names, for each processor (GOARCH), the kernel packages to try, best
// first: Debian's 6.12 as bookworm-security has it, the release's own cloud
// kernel, Ubuntu's kernels for virtual machines, and what always exists.
var packages = map[string][]string{
	"amd64":   {"linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64", "linux-image-virtual", "linux-image-generic", "linux-image-amd64"},
	"arm64":   {"linux-image-6.12-cloud-arm64", "linux-image-cloud-arm64", "linux-image-virtual", "linux-image-generic", "linux-image-arm64"},
	"ppc64le": {"linux-image-6.12-powerpc64le", "linux-image-powerpc64le", "linux-image-virtual", "linux-image-generic"},
}

// debianArch translates a GOARCH.
func debianArch(arch string) string {
	if arch == "ppc64le" {
		return "ppc64el"
	}
	return arch
}

const (
	downloadTime = 15 * time.Minute
	maxAptOutput = 1 << 20
)

// download fetches a kernel package with apt, which checks its signatures,
// unpacks it without installing it, and keeps what is needed in the cache. It
// needs no privilege and changes nothing on the system: first apt's own lists are
// read, and where they do not do (none, too old, another processor), lists are
// fetched into a root of our own.
func (f Finder) download(ctx context.Context, arch string) (Kernel, error) {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Kernel{}, &Error{Err: fmt.Errorf("image: downloading needs %s, which this machine has not", tool),
				What: "give a kernel with --kernel FILE"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, downloadTime)
	defer cancel()
	images := filepath.Join(f.CacheDir, imagesDir)
	unlock, err := lock(images)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if k, ok := f.cached(arch); ok { // another run made it while this one waited
		return k, nil
	}
	sweep(images)
	temp, err := os.MkdirTemp(images, tempPrefix)
	if err != nil {
		return Kernel{}, diskError("filling the cache", err)
	}
	defer os.RemoveAll(temp)

	a := apt{dir: temp, arch: debianArch(arch), progress: f.progress}
	var pkg aptPackage
	err = errors.New("the system's package lists are for another processor")
	if out, e := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output(); e == nil && strings.TrimSpace(string(out)) == a.arch {
		pkg, err = a.fetch(ctx, packages[arch])
	}
	if err != nil && ctx.Err() == nil {
		f.progress("reading the distribution's package lists")
		if err = a.privateRoot(ctx); err == nil {
			pkg, err = a.fetch(ctx, packages[arch])
		}
	}
	if err != nil {
		return Kernel{}, err
	}
	f.progress("unpacking " + pkg.name)
	root := filepath.Join(temp, "root")
	for _, deb := range pkg.files {
		if _, err := a.run(ctx, temp, "dpkg-deb", "-x", deb, root); err != nil {
			return Kernel{}, err
		}
		_ = os.Remove(deb)
	}
	return f.install(arch, pkg.name+"_"+pkg.version, root, temp)
}

func (f Finder) progress(line string) {
	if f.Progress != nil {
		f.Progress(line)
	}
}

type apt struct {
	dir      string
	arch     string // Debian's name
	config   string // APT_CONFIG of the private root; "" is the system's
	progress func(string)
}

type aptPackage struct {
	name, version string
	files         []string // one, or two where modules are packed apart
}

// Names as Debian policy 5.6.1 has them, and versions without "/" (5.6.12). They are
// compiled when something is fetched: every run would pay for it otherwise.
var (
	packageName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,100}$`) })
	packageVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9.+~:-]{1,100}$`) })
)

// fetch downloads the first of the packages that exists, resolving the names that
// stand for "the current one" to the package with the kernel in it.
func (a apt) fetch(ctx context.Context, names []string) (aptPackage, error) {
	for _, n := range names {
		name, fields := n, map[string]string{}
		for range 4 { // linux-image-virtual → linux-image-generic → linux-image-6.8.0-60-generic
			var err error
			if fields, err = a.show(ctx, name); err != nil {
				break
			}
			next := dependency(fields["Depends"], "linux-image-")
			if next == "" {
				break
			}
			name = next
		}
		version := fields["Version"]
		if fields["Package"] != name || !packageName().MatchString(name) || !packageVersion().MatchString(version) {
			continue
		}
		want := []string{name}
		// Ubuntu packs the modules, and the list of what is built in, apart.
		if m := dependency(fields["Depends"], "linux-modules-"); m != "" && packageName().MatchString(m) {
			want = append(want, m)
		}
		a.progress(fmt.Sprintf("downloading %s %s", name, version))
		args := []string{"download"}
		for _, w := range want {
			args = append(args, w+":"+a.arch)
		}
		if _, err := a.run(ctx, a.dir, "apt-get", args...); err != nil {
			return aptPackage{}, err
		}
		files, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
		if err != nil || len(files) != len(want) {
			return aptPackage{}, fmt.Errorf("image: apt-get download %s: found %d packages, wanted %d", name, len(files), len(want))
		}
		return aptPackage{name, version, files}, nil
	}
	return aptPackage{}, fmt.Errorf("image: apt knows none of %s for %s", strings.Join(names, ", "), a.arch)
}

// show reads the fields of one package that matter here.
func (a apt) show(ctx context.Context, name string) (map[string]string, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "show", "--no-all-versions", name+":"+a.arch)
	if err != nil {
		return nil, err
	}
	return parseControl(out), nil
}

// parseControl reads the first stanza of a control file's one-line fields.
func parseControl(b []byte) map[string]string {
	fields := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ": ")
		if _, twice := fields[name]; ok && !twice && !strings.HasPrefix(line, " ") {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

// dependency is the first package in a Depends field whose name begins so.
func dependency(depends, prefix string) string {
	for _, d := range strings.FieldsFunc(depends, func(r rune) bool { return r == ',' || r == '|' }) {
		name := strings.TrimSpace(d)
		if i := strings.IndexAny(name, " (:"); i >= 0 {
			name = name[:i]
		}
		if strings.HasPrefix(name, prefix) && packageName().MatchString(name) {
			return name
		}
	}
	return ""
}

// privateRoot makes an apt state of our own below a.dir, with the system's sources
// and keys, and fetches lists for the one processor. The system's own state is not
// touched, and no privilege is needed.
func (a *apt) privateRoot(ctx context.Context) error {
	root := filepath.Join(a.dir, "apt")
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return diskError("filling the cache", err)
		}
	}
	if strings.ContainsAny(root, "\"\\\n;{}") {
		return fmt.Errorf("image: the cache's path %q cannot stand in an apt configuration", root)
	}
	status := filepath.Join(root, "status")
	conf := fmt.Sprintf("Dir::State \"%s/state\";\nDir::Cache \"%s/cache\";\nDir::State::status \"%s\";\n"+
		"Dir::Log \"%s\";\nAPT::Architecture \"%s\";\nAPT::Architectures {\"%s\";};\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n",
		root, root, status, root, a.arch, a.arch)
	config := filepath.Join(root, "apt.conf")
	for file, text := range map[string]string{status: "", config: conf} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return diskError("filling the cache", err)
		}
	}
	a.config = config
	// Some suites may lack this processor: what counts is whether a package is
	// found afterwards, and apt uses no list whose signature failed.
	if _, err := a.run(ctx, a.dir, "apt-get", "update"); err != nil {
		if ctx.Err() != nil || fullDisk(err) {
			return err
		}
		a.progress("apt-get update: " + err.Error())
	}
	return nil
}

// run runs a command and gives its output; an error holds the last line it wrote.
func (a apt) run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if a.config != "" {
		cmd.Env = append(cmd.Env, "APT_CONFIG="+a.config)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &bounded{w: &out, left: maxAptOutput}, &bounded{w: &errs, left: maxAptOutput}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("image: %s: %w", name, ctx.Err())
		}
		err = fmt.Errorf("image: %s %s: %w: %s", name, args[0], err, telling(errs.String()))
		if fullDisk(err) {
			return nil, &Error{Err: err, What: "free some space, or put the cache elsewhere with XDG_CACHE_HOME"}
		}
		return nil, err
	}
	return out.Bytes(), nil
}

func fullDisk(err error) bool {
	return strings.Contains(err.Error(), "No space left on device") || strings.Contains(err.Error(), "don't have enough free space")
}

// telling picks the line that says what went wrong: the first that apt marks as an
// error, else the last.
func telling(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "E: ") || strings.Contains(l, "No space left") {
			return l
		}
	}
	return lines[len(lines)-1]
}

// bounded drops what is written beyond a limit.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
