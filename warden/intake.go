//go:build linux

package warden

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// takeIn receives the manifest, makes the self-check against its digest, and
// receives the configuration, the module and the data, each hashed as it comes
// and compared with the manifest. The child compiles the module meanwhile; nothing
// of it runs before all of this has ended well.
func (w *warden) takeIn() (data []*os.File, err error) {
	st, err := w.sess.Open(link.ServiceWorkload, nil)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	_ = st.SetReadDeadline(time.Now().Add(handoverTime))
	st.Grow(bulkWindow)
	if err := link.ReadRecord(st, link.MaxOfferRecord, &w.offer); err != nil {
		return nil, fmt.Errorf("warden: the host's offer: %w", err)
	}
	if err := checkSignatures(w.offer.Signatures); err != nil {
		return nil, err
	}
	if err := w.CheckSandbox(w.offer.Weak); err != nil {
		return nil, err
	}
	w.digest = sha256.Sum256(w.offer.Manifest)
	if w.manifest, err = workload.ParseManifest(w.offer.Manifest); err != nil {
		return nil, &refusedError{"the manifest: " + err.Error()}
	}
	// The report is asked for while the bytes come.
	checked := make(chan error, 1)
	go func() { checked <- w.prove() }()
	data, err = w.takeBlobs(st)
	if perr := <-checked; perr != nil {
		// Whatever came is not this Keep's workload: that is the finding.
		return nil, perr
	}
	if err == nil {
		w.identity.role = w.cfg.Role() // one of the configuration's
		w.identity.signed = attached(w.offer.Signatures)
	}
	return data, err
}

// weak says whether the host's user wants the guest to run although its sandbox
// cannot be applied. Elsewhere than in a sim Keep the host has no say in it.
func (w *warden) weak() bool { return w.offer.Weak && w.TEE == "sim" }

// compile lets the child compile the module, and fetches the machine code that
// the host has kept.
func (w *warden) compile(module *os.File) error {
	cached := !w.NoCache && !w.offer.NoCache
	if err := w.Child.Compile(child.Job{Cache: cached, Weak: w.weak()}, module); err != nil {
		return err
	}
	if !cached {
		w.code <- nil
		return nil
	}
	go func() {
		select {
		case <-w.proved: // the key is this Keep's own
			w.code <- w.fetchCode()
		case <-w.sess.Done():
			w.code <- nil
		}
	}()
	return nil
}

func (w *warden) prove() error {
	rst, err := w.sess.Open(link.ServiceReport, nil)
	if err != nil {
		return err
	}
	w.identity, err = newIdentity(&simulated{st: rst}, w.digest, w.now)
	if err != nil {
		return err
	}
	close(w.proved)
	return nil
}

func (w *warden) takeBlobs(st io.Reader) (data []*os.File, err error) {
	config := make([]byte, w.manifest.Config.Size) // bounded by ParseManifest
	if _, err := io.ReadFull(st, config); err != nil {
		return nil, fmt.Errorf("warden: receiving the configuration: %w", err)
	}
	if d := sha256.Sum256(config); d != w.manifest.Config.Digest {
		return nil, changed("the configuration", d, w.manifest.Config.Digest)
	}
	if w.cfg, err = workload.ParseConfig(config); err != nil {
		return nil, &refusedError{"the configuration: " + err.Error()}
	}
	w.config = config
	if w.cfg, err = w.cfg.As(w.offer.Role); err != nil {
		return nil, &refusedError{"the host's offer: " + err.Error()}
	}
	if w.args, w.env, err = w.cfg.Input(workload.HostInput{Args: w.offer.Args, Env: w.offer.Env, Role: w.offer.Role}); err != nil {
		return nil, &refusedError{err.Error()}
	}
	if w.cfg.Builtin != "" {
		if n := len(w.manifest.Layers); n > 0 {
			return nil, &refusedError{fmt.Sprintf("the manifest has %d layers, wanted none: builtin = %q runs no module", n, w.cfg.Builtin)}
		}
		return nil, nil
	}
	names := w.cfg.Paths()
	if len(w.manifest.Layers) != 1+len(names) {
		return nil, &refusedError{fmt.Sprintf("the manifest has %d layers, the configuration names %d files beside the module", len(w.manifest.Layers), len(names))}
	}
	for i, l := range w.manifest.Layers {
		what := "the module"
		if i > 0 {
			what = names[i-1].Path
		}
		f, err := takeBlob(st, what, l)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			data = append(data, f)
			continue
		}
		if err := w.compile(f); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// takeBlob copies a blob in, into memory that nobody else can reach, hashes that
// memory, and seals it.
func takeBlob(st io.Reader, what string, d workload.Descriptor) (*os.File, error) {
	var got [32]byte
	f, err := child.Memory("blob", d.Size, func(w io.Writer) error {
		h := sha256.New()
		buf := make([]byte, min(d.Size, 256<<10))
		for left := d.Size; left > 0; {
			part := buf[:min(left, int64(len(buf)))]
			if _, err := io.ReadFull(st, part); err != nil {
				return fmt.Errorf("warden: receiving %s: %w", what, err)
			}
			h.Write(part)
			if _, err := w.Write(part); err != nil {
				return fmt.Errorf("warden: keeping %s: %w", what, err)
			}
			left -= int64(len(part))
		}
		h.Sum(got[:0])
		return nil
	})
	if err != nil {
		return nil, err
	}
	if got != d.Digest {
		_ = f.Close()
		return nil, changed(what, got, d.Digest)
	}
	return f, nil
}

func changed(what string, got, want [32]byte) error {
	return &refusedError{fmt.Sprintf("%s is not what the manifest names: found sha256:%x, wanted sha256:%x", what, got, want)}
}

// admit refuses a configuration that asks for what this Keep does not do: to run
// without it would be to fail open.
func (w *warden) admit() error {
	if w.cfg.Steward != "" && w.cfg.StewardCA == "" {
		return &configError{"the configuration names a Steward and no steward_ca: a Keep believes no public authority about its Steward",
			`put the Steward's ca.pem beside the configuration and name it with steward_ca`}
	}
	if len(w.cfg.TEE) > 0 {
		for _, t := range w.cfg.TEE {
			if t == w.Options.TEE {
				return nil
			}
		}
		return &configError{fmt.Sprintf("the configuration admits tee = %q, and this is %s, which is no TEE", w.cfg.TEE, w.Options.TEE), "run it with --tee of one of these"}
	}
	return nil
}
