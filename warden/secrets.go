//go:build linux

package warden

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/workload"
)

// secretEnv gives the variables, NAME=VALUE, that hold secrets. What is said about one
// that cannot be a variable tells nothing of its value.
func (w *warden) secretEnv() ([]string, error) {
	var out []string
	for _, s := range w.cfg.Secrets {
		if s.Env == "" {
			continue
		}
		v := w.enrolled.secrets[s.Name]
		if bytes.IndexByte(v, 0) >= 0 || !utf8.Valid(v) {
			return nil, &configError{fmt.Sprintf("the secret %q cannot be the variable %s: it holds a zero byte or is not UTF-8 text", s.Name, s.Env),
				`declare it with file = "/secrets/NAME" in place of env`}
		}
		out = append(out, s.Env+"="+string(v))
	}
	return out, nil
}

// secretFolders gives the guest its secrets that are files: read-only folders in the
// memory of the Keep that hold nothing else.
func (w *warden) secretFolders(spec *child.Spec) ([]*os.File, error) {
	folders := map[string][]workload.Secret{}
	for _, s := range w.cfg.Secrets {
		if s.File != "" {
			folders[path.Dir(s.File)] = append(folders[path.Dir(s.File)], s)
		}
	}
	var dirs []string
	for d := range folders {
		dirs = append(dirs, d)
	}
	sort.Strings(dirs)
	var out []*os.File
	for _, dir := range dirs {
		f, err := w.packSecrets(folders[dir])
		if err != nil {
			return nil, err
		}
		spec.Mounts = append(spec.Mounts, child.Mount{Guest: dir, Kind: child.MountArchive})
		out = append(out, f)
	}
	return out, nil
}

func (w *warden) packSecrets(list []workload.Secret) (*os.File, error) {
	var buf bytes.Buffer
	defer func() { clear(buf.Bytes()[:buf.Cap()]) }()
	tw := tar.NewWriter(&buf)
	for _, s := range list {
		v := w.enrolled.secrets[s.Name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Base(s.File), Mode: 0o400, Size: int64(len(v)), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := tw.Write(v); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return child.Bytes("secrets", buf.Bytes())
}

// missing names the secrets that the workload declares and s does not hold.
func missing(declared []workload.Secret, s map[string][]byte) string {
	var names []string
	seen := map[string]bool{}
	for _, d := range declared {
		if _, ok := s[d.Name]; !ok && !seen[d.Name] {
			seen[d.Name] = true
			names = append(names, fmt.Sprintf("%q", d.Name))
		}
	}
	return strings.Join(names, ", ")
}
