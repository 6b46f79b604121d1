//go:build linux

package main

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

type signFlags struct {
	workloadFlags
	dir       []string
	key, name string
	version   uint64
	newKey    string
	asJSON    bool
}

func newSignCommand(a *app) *cobra.Command {
	var f signFlags
	c := &cobra.Command{
		Use:   "sign --key FILE --name NAME --version NUMBER [flags] WORKLOAD [-- ARGS]",
		Short: "sign a workload's digest as a version of a name, or make a key to sign with",
		Long: `sign writes a signature beside WORKLOAD (Donjon.sig in a folder, x.wasm.sig beside
x.wasm): that its digest is version NUMBER of NAME. The digest stays what it is. A
signature of the same key and name is replaced; the flags that are measured change
the digest as they do for run. A Steward's policy for the signer then admits it:
donjon steward workload allow --signer.

Versions are whole numbers from 1: the higher is the newer, and a Steward admits none
lower than one that it has admitted.

The key is Ed25519 or ECDSA P-256, PKCS#8 in PEM, readable by its owner alone.
--new-key makes an Ed25519 key and prints its public half and its id:

    donjon sign --new-key signer.key >signer.pub

exit status: 0 done, 1 failed, 2 wrong usage, 126 not a workload, 127 not found.`,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("new-key") {
				return a.newSigningKey(c, f, args)
			}
			name, rest, err := splitArgs(c, args)
			if err != nil {
				return err
			}
			return a.sign(f, name, rest)
		},
	}
	f.register(c)
	c.Flags().StringArrayVar(&f.dir, "dir", nil, "a folder that run will be given, `HOST::GUEST` (the guest's side is measured)")
	c.Flags().StringVar(&f.key, "key", "", "the private key, a `FILE` (0600)")
	c.Flags().StringVar(&f.name, "name", "", "the workload's `NAME`: lower-case letters, digits, dots, hyphens and underscores")
	c.Flags().Uint64Var(&f.version, "version", 0, "its version, a `NUMBER` from 1")
	c.Flags().StringVar(&f.newKey, "new-key", "", "make a key and write it to `FILE`, which must not be there")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	completeWorkload(c)
	return c
}

func (a *app) newSigningKey(c *cobra.Command, f signFlags, args []string) error {
	if len(args) > 0 || f.key+f.name != "" || f.version != 0 {
		return failHint(statusUsage, "donjon sign --new-key FILE >PUBLIC", errors.New("--new-key takes neither a workload nor what is for signing one"))
	}
	if f.newKey == "" {
		return failHint(statusUsage, "is a variable of the shell unset?", errors.New("--new-key: found an empty value"))
	}
	pub, file, err := signature.NewKey()
	if err != nil {
		return fail(statusFailed, err)
	}
	defer clear(file)
	out, err := os.OpenFile(f.newKey, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return failHint(statusFailed, "a key that is there is never written over", err)
	}
	if err != nil {
		return fail(statusFailed, err)
	}
	_, err = out.Write(file)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		_ = os.Remove(f.newKey)
		return fail(statusFailed, fmt.Errorf("writing %s: %w", f.newKey, err))
	}
	if f.asJSON {
		return a.printJSON(map[string]string{"signer": pub.ID().String(), "public_key": string(pub.PEM())})
	}
	_, err = fmt.Fprintf(a.stdout, "signer       %s\n%s", pub.ID(), pub.PEM())
	return err
}

// readSigningKey reads a private key that its owner alone can read.
func readSigningKey(name string) (crypto.Signer, error) {
	b, err := readPrivate(name, 16<<10)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := signature.ParsePrivateKey(b)
	if err != nil {
		return nil, failHint(statusFailed, "donjon sign --new-key makes one; openssl genpkey does too", fmt.Errorf("%s: %w", name, err))
	}
	return key, nil
}

func (a *app) sign(f signFlags, name string, args []string) error {
	if f.key == "" || f.name == "" {
		return usageError(errors.New("--key and --name are needed to sign"))
	}
	if err := errors.Join(signature.CheckName(f.name), signature.CheckVersion(f.version)); err != nil {
		return usageError(err)
	}
	measured := f.flags(args)
	var err error
	if measured.HostDirs, err = guestDirs(f.dir); err != nil {
		return err
	}
	load := func() (*workload.Workload, error) {
		return loadModule(name, measured)
	}
	w, err := load()
	if err != nil {
		return err
	}
	key, err := readSigningKey(f.key)
	if err != nil {
		return err
	}
	e, err := signature.Sign(key, w.Digest, f.name, f.version)
	if err != nil {
		return fail(statusFailed, err)
	}
	file := signature.Beside(name)
	old, err := signature.ReadFile(file)
	if err != nil {
		return failHint(statusFailed, "remove "+file+" to begin anew", err)
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(statusFailed, err)
	}
	list := []*signature.Envelope{e}
	for _, x := range old {
		if x.Signer.ID() != e.Signer.ID() || x.Name != e.Name {
			list = append(list, x)
		} else if x.Workload != e.Workload && x.Version >= e.Version {
			a.note("version %d of %s was another workload, %s: a Steward that has admitted it takes no lower one, and cannot tell two of one version apart", x.Version, x.Name, x.Workload)
		}
	}
	b, err := signature.EncodeFile(list)
	if err != nil {
		return failHint(statusFailed, "remove "+file+" to begin anew", err)
	}
	if err := replaceFile(file, b); err != nil {
		return fail(statusFailed, err)
	}
	if err := unchanged(load, w, file, before); err != nil {
		return err
	}
	if f.asJSON {
		return a.printJSON(reportSignature(e, w.Digest))
	}
	fmt.Fprintf(a.stdout, "signed       %s\nas           %s version %d\nby           %s\nin           %s\n", w.Digest, e.Name, e.Version, e.Signer.ID(), oneLine(file))
	return nil
}

// unchanged takes the signature away again where it is itself part of the workload: a
// data folder that holds it makes every signature one of another digest. Signatures that
// stood there before (nil: none) stay.
func unchanged(load func() (*workload.Workload, error), w *workload.Workload, file string, before []byte) error {
	again, err := load()
	if err == nil && again.Digest == w.Digest {
		return nil
	}
	undo := func() error { return os.Remove(file) }
	if before != nil {
		undo = func() error { return replaceFile(file, before) }
	}
	if undone := undo(); err != nil || undone != nil {
		return errors.Join(err, undone)
	}
	return failHint(statusFailed, "name a data folder that does not hold "+filepath.Base(file), fmt.Errorf("the workload changed from %s to %s while it was signed: a data folder holds the signature, or somebody writes to it", w.Digest, again.Digest))
}

// replaceFile writes a file beside its place and moves it there.
func replaceFile(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".donjon-sig-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return os.Rename(tmp.Name(), name)
}

// signaturesOf are the signatures beside a workload that are over it, for its Steward
// and for Keeps that it talks to.
// Whatever is wrong with the others is said, and stops nothing: the workload may be
// allowed by its digest.
func (a *app) signaturesOf(w *workload.Workload) [][]byte {
	file := signature.Beside(w.Path)
	list, err := signature.ReadFile(file)
	if err != nil {
		a.note("no signature goes along: %v", err)
		return nil
	}
	var out [][]byte
	for _, e := range list {
		if e.Workload != w.Digest {
			continue
		}
		b, err := e.Encode()
		if err != nil {
			a.note("no signature goes along: %v", err)
			return nil
		}
		out = append(out, b)
	}
	if len(list) > 0 && len(out) == 0 {
		a.note("%s signs %s, and this workload is %s: it was changed since, or other flags make it another", file, list[0].Workload, w.Digest)
	}
	return out
}

// readSigner is what --signer says: a public key's file, or a key id.
func readSigner(text string) (signature.KeyID, error) {
	if id, err := signature.ParseKeyID(text); err == nil && notThere(text) {
		return id, nil
	}
	b, err := readAtMost(text, 16<<10)
	if err != nil {
		return signature.KeyID{}, failHint(statusFailed, "--signer takes a public key's file (PEM), or a key id of 64 hexadecimal digits", err)
	}
	if bytes.Contains(b, []byte("PRIVATE KEY")) {
		return signature.KeyID{}, failHint(statusFailed, "openssl pkey -in FILE -pubout prints the public half", fmt.Errorf("%s holds a private key, wanted the public one", text))
	}
	k, err := signature.ParsePublicKey(b)
	if err != nil {
		return signature.KeyID{}, fail(statusFailed, fmt.Errorf("%s: %w", text, err))
	}
	return k.ID(), nil
}

// readSignatures is a file of signatures, for a Steward to judge.
func readSignatures(name string) ([][]byte, error) {
	list, err := signature.ReadFile(name)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s: found no signature", name)
	}
	if err != nil {
		return nil, fail(statusFailed, err)
	}
	var out [][]byte
	for _, e := range list {
		b, err := e.Encode()
		if err != nil {
			return nil, fail(statusFailed, err)
		}
		out = append(out, b)
	}
	return out, nil
}
