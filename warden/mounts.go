//go:build linux

package warden

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// openMounts gives the guest its folders: measured data, scratch memory, and, in
// a sim Keep alone, folders of the host.
func (w *warden) openMounts(spec *child.Spec, data []*os.File) ([]*os.File, error) {
	var out []*os.File
	index := map[string]int{}
	for i, p := range w.cfg.Paths() {
		index[p.Path] = i
	}
	files := map[string][]workload.Data{} // single files, by the guest's folder
	for _, d := range w.cfg.Data {
		i := index[d.Path]
		if w.manifest.Layers[1+i].MediaType == workload.MediaFile {
			files[path.Dir(d.Guest)] = append(files[path.Dir(d.Guest)], d)
			continue
		}
		// Each mount has a descriptor of its own: one folder may be mounted twice.
		f, err := dup(data[i])
		if err != nil {
			return nil, err
		}
		spec.Mounts = append(spec.Mounts, child.Mount{Guest: d.Guest, Kind: child.MountArchive})
		out = append(out, f)
	}
	var dirs []string
	for d := range files {
		dirs = append(dirs, d)
	}
	sort.Strings(dirs)
	for _, dir := range dirs {
		f, err := w.packFiles(files[dir], index, data)
		if err != nil {
			return nil, err
		}
		spec.Mounts = append(spec.Mounts, child.Mount{Guest: dir, Kind: child.MountArchive})
		out = append(out, f)
	}
	secrets, err := w.secretFolders(spec)
	if err != nil {
		return nil, err
	}
	out = append(out, secrets...)
	for _, s := range w.cfg.Scratch {
		spec.Mounts = append(spec.Mounts, child.Mount{Guest: s.Guest, Kind: child.MountScratch, Size: s.Size})
	}
	for i, h := range w.cfg.HostDirs {
		f, err := w.hostDir(uint32(i))
		if err != nil {
			return nil, fmt.Errorf("warden: host folder for %s: %w", h.Guest, err)
		}
		spec.Mounts = append(spec.Mounts, child.Mount{Guest: h.Guest, Kind: child.MountHost})
		out = append(out, f)
	}
	seen := map[string]bool{}
	for _, m := range spec.Mounts {
		if seen[m.Guest] {
			return nil, &configError{what: fmt.Sprintf("%q is mounted twice; a data file's folder is a mount of its own", m.Guest)}
		}
		seen[m.Guest] = true
	}
	return out, nil
}

func dup(f *os.File) (*os.File, error) {
	var out *os.File
	var err error
	control(f, func(fd int) {
		var n int
		if n, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			out = os.NewFile(uintptr(n), "blob")
		}
	})
	return out, err
}

// packFiles makes one read-only folder of single measured files.
func (w *warden) packFiles(list []workload.Data, index map[string]int, data []*os.File) (*os.File, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, d := range list {
		i := index[d.Path]
		size := w.manifest.Layers[1+i].Size
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Base(d.Guest), Mode: 0o444, Size: size, Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(tw, io.NewSectionReader(data[i], 0, size)); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return child.Bytes("files", buf.Bytes())
}

// hostDir connects the guest with the host's server for one folder. The warden
// reads none of it.
func (w *warden) hostDir(i uint32) (*os.File, error) {
	if w.Options.TEE != "sim" {
		return nil, &configError{what: "a folder of the host is for sim Keeps alone: the host reads and writes all of it"}
	}
	st, err := w.sess.Open(link.ServiceDir, link.Marshal(link.PortRequest{Index: i}))
	if err != nil {
		return nil, err
	}
	ours, theirs, err := rawPair()
	if err != nil {
		return nil, err
	}
	st.Relay(ours, nil, nil)
	return theirs, nil
}
