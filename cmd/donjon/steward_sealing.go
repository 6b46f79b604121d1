//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/keyring/p11"
	"github.com/donjon-tee/donjon/keyring/private"
	"github.com/donjon-tee/donjon/steward/sealing"
)

// sealingSettings say how the keys that seal secrets are protected. serving.json keeps
// them for the other verbs; no PIN and no passphrase is in them.
type sealingSettings struct {
	Kind    string `json:"kind,omitempty"`
	Token   string `json:"token,omitempty"`    // PKCS#11 URI
	Server  string `json:"server,omitempty"`   // instead of the URI's module-path
	PINFile string `json:"pin_file,omitempty"` // a path, or fd:N
	TEE     string `json:"tee,omitempty"`      // of a Keep
	// AllowSimulated lets the Keep's processor be simulated.
	AllowSimulated bool `json:"allow_simulated,omitempty"`

	oldKeep string // of a move: the donjon-keep that opens the keys before
	create  bool
	pinFlag bool // PINFile was said on the command line
}

// Variables that name files, for every verb.
const (
	passphraseVariable = "DONJON_SEALING_PASSPHRASE_FILE"
	pinVariable        = "DONJON_SEALING_PIN_FILE"
	// keepVariable is of a passphrase beside the Keep: not the other one, for keys move
	// from one to the other.
	keepVariable = "DONJON_SEALING_KEEP_PASSPHRASE_FILE"
)

func (s *sealingSettings) register(c *cobra.Command) {
	c.Flags().StringVar(&s.Kind, "sealing", "", "protect the keys that seal secrets by `KIND`: file, passphrase, pkcs11 or keep (docs/steward.md)")
	c.Flags().StringVar(&s.Token, "sealing-token", "", "the key in a PKCS#11 token, a `URI`: pkcs11:token=…;object=…?module-path=…")
	c.Flags().StringVar(&s.Server, "sealing-server", "", "p11-kit server that has the token, instead of a module (`ADDRESS`: unix:path=…)")
	c.Flags().StringVar(&s.PINFile, "sealing-pin-file", "", "the token's PIN: a `FILE` only its owner can read, or fd:N")
	c.Flags().BoolVar(&s.create, "sealing-create", false, "make the token's key where there is none yet, with the first sealing key")
	c.Flags().StringVar(&s.TEE, "sealing-tee", "", "the Keep that seals them, of the kind keep: sim or vm")
	c.Flags().BoolVar(&s.AllowSimulated, "sealing-allow-simulated", false, "believe a Keep whose processor is simulated, as sim's and vm's are")
	_ = c.MarkFlagFilename("sealing-pin-file")
}

// given says whether any of the flags is.
func (s *sealingSettings) given(c *cobra.Command) bool {
	for _, name := range []string{"sealing", "sealing-token", "sealing-server", "sealing-pin-file", "sealing-create", "sealing-tee", "sealing-allow-simulated"} {
		if c.Flags().Changed(name) {
			s.pinFlag = c.Flags().Changed("sealing-pin-file")
			return true
		}
	}
	return false
}

// settle fills in what is implied, and makes paths absolute: other verbs run elsewhere.
func (s *sealingSettings) settle(a *app) error {
	if s.Kind == "" {
		switch {
		case s.Token != "":
			s.Kind = sealing.KindPKCS11
		case s.TEE != "":
			s.Kind = sealing.KindKeep
		case a.getenv(passphraseVariable) != "":
			s.Kind = sealing.KindPassphrase
		default:
			s.Kind = sealing.KindFile
		}
	}
	if s.Kind != sealing.KindKeep && (s.TEE != "" || s.AllowSimulated) {
		return usageError(fmt.Errorf("a Keep's TEE, and letting it be simulated, belong to sealing by keep, and found %s", s.Kind))
	}
	switch s.Kind {
	case sealing.KindFile, sealing.KindPassphrase, sealing.KindKeep:
		if s.Kind == sealing.KindKeep && s.TEE != "sim" && s.TEE != "vm" {
			return usageError(fmt.Errorf("sealing by keep: found the TEE %.40q, wanted sim or vm: no other Keep can seal in this release", s.TEE))
		}
		if s.Token+s.Server+s.PINFile != "" || s.create {
			return usageError(fmt.Errorf("a token, its server, its PIN and making its key belong to sealing by pkcs11, and found %s", s.Kind))
		}
	case sealing.KindPKCS11:
		if s.Token == "" {
			return usageError(errors.New("sealing by pkcs11 needs the key's URI: pkcs11:token=…;object=…?module-path=…"))
		}
		uri, err := p11.ParseURI(s.Token)
		if err == nil && (uri.Module == "") == (s.Server == "") {
			err = errors.New("sealing by pkcs11 needs a module-path in the URI or a server, and not both")
		}
		if err != nil {
			return failHint(statusUsage, "docs/steward.md, Sealing keys in a token", err)
		}
	default:
		return usageError(fmt.Errorf("sealing: found %.40q, wanted file, passphrase, pkcs11 or keep", s.Kind))
	}
	if s.PINFile != "" && !strings.HasPrefix(s.PINFile, "fd:") {
		abs, err := filepath.Abs(s.PINFile)
		if err != nil {
			return fail(statusFailed, err)
		}
		s.PINFile = abs
	}
	return nil
}

// recorded is what the other verbs may know: stdin and descriptors are theirs.
func (s sealingSettings) recorded() *sealingSettings {
	if s.Kind == sealing.KindFile || s.Kind == sealing.KindPassphrase {
		return nil // the variable says which, as ever
	}
	if strings.HasPrefix(s.PINFile, "fd:") {
		s.PINFile = ""
	}
	return &s
}

// before is the kind that keys are moved to s from, where nothing was recorded: the
// variable may name the passphrase of either.
func (s *sealingSettings) before(dir string) *sealingSettings {
	if found := s.other(dir); found != nil {
		return found
	}
	return &sealingSettings{Kind: sealing.KindFile}
}

// from is what a move to s reads the keys before with. A server that was started with s
// recorded that, after a move to it was cut off: then it is what else lies there.
func (s *sealingSettings) from(recorded *sealingSettings, dir string) *sealingSettings {
	switch {
	case recorded == nil:
		return s.before(dir)
	case recorded.Kind == s.Kind:
		if found := s.other(dir); found != nil {
			return found
		}
	}
	return recorded
}

// other is a kind in the folder that is not s's and needs no settings; nil: there is none.
func (s *sealingSettings) other(dir string) *sealingSettings {
	kinds, _ := sealing.Kinds(dir) // an error comes again where the keys are opened
	for _, kind := range []string{sealing.KindFile, sealing.KindPassphrase} {
		if kind != s.Kind && slices.Contains(kinds, kind) {
			return &sealingSettings{Kind: kind}
		}
	}
	return nil
}

// sealingConfig reads what the settings name. nil: file, or passphrase where the
// variable names one.
func (a *app) sealingConfig(s *sealingSettings, keys string) (c sealing.Config, err error) {
	if s == nil {
		s = &sealingSettings{}
		if err := s.settle(a); err != nil {
			return sealing.Config{}, err
		}
	}
	c = sealing.Config{Kind: s.Kind, Dir: sealingDir(keys)}
	switch s.Kind {
	case sealing.KindPassphrase:
		if c.Passphrase, err = a.passphraseOf(passphraseVariable); err != nil {
			return c, err
		}
		if c.Passphrase == nil {
			return c, failHint(statusUsage, passphraseVariable+" names the file that holds it", errors.New("sealing by passphrase needs one"))
		}
	case sealing.KindKeep:
		c.Keep = a.sealerKeeps(s.TEE, s.AllowSimulated)
		if c.Passphrase, err = a.passphraseOf(keepVariable); err != nil {
			return c, err
		}
	case sealing.KindPKCS11:
		uri, err := p11.ParseURI(s.Token)
		if err != nil {
			return c, failHint(statusUsage, "docs/steward.md, Sealing keys in a token", err)
		}
		c.Token = sealing.Token{URI: uri, Server: s.Server, PINFile: s.PINFile, Create: s.create}
		if name := a.getenv(pinVariable); name != "" && !s.pinFlag {
			c.Token.PINFile = name
		}
		if fd, ok := strings.CutPrefix(c.Token.PINFile, "fd:"); ok {
			c.Token.PINFile = ""
			if c.Token.PIN, err = a.pinFrom(fd); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// passphraseOf is the passphrase in the file that a variable names, without its last
// newline; nil: none.
func (a *app) passphraseOf(variable string) ([]byte, error) {
	if name := a.getenv(variable); name != "" {
		return passphraseIn(name)
	}
	return nil, nil
}

func passphraseIn(file string) ([]byte, error) {
	b, err := readPrivate(file, 4096)
	return bytes.TrimSuffix(b, []byte("\n")), err
}

// pinFrom reads the PIN from a descriptor that whoever started this program left open.
func (a *app) pinFrom(fd string) ([]byte, error) {
	n, err := strconv.ParseUint(fd, 10, 16)
	if err != nil || n == 1 || n == 2 {
		return nil, usageError(fmt.Errorf("the PIN's descriptor: found fd:%.10q, wanted fd:0 (stdin) or fd:3 and up", fd))
	}
	in := a.stdin
	if n > 0 {
		f := os.NewFile(uintptr(n), "fd:"+fd)
		if f == nil {
			return nil, usageError(fmt.Errorf("the PIN's descriptor: fd:%d is not open", n))
		}
		defer f.Close()
		in = f
	}
	pin, err := sealing.ReadPIN(in)
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("fd:%d: %w", n, err))
	}
	return pin, nil
}

// sealingError says what to do about keys that cannot be opened.
func sealingError(err error, dir string) error {
	hint := "where the sealing keys have a passphrase, " + passphraseVariable + " names the file that holds it; of one beside a Keep it is " + keepVariable
	switch {
	case errors.Is(err, sealing.ErrKind):
		hint = "serve's [sealing] must say how the keys are protected; donjon steward rotate --sealing-key --sealing KIND moves them to another kind"
	case errors.Is(err, sealing.ErrKeepRefused):
		hint = "another donjon-keep (DONJON_KEEP names one), another machine, or simulated and not allowed by name? docs/sealer.md says what to do, and how a recovery copy is used"
	case errors.Is(err, sealing.ErrKeep):
		hint = "donjon -v says more; docs/sealer.md says how a recovery copy is used"
		var own interface{ Hint() string }
		if errors.As(err, &own) && own.Hint() != "" {
			hint = own.Hint()
		}
	case errors.Is(err, p11.ErrPINNeeded):
		hint = "--sealing-pin-file, pin_file in [sealing], or " + pinVariable + " names the file that holds it"
	case errors.Is(err, p11.ErrPINBlocked):
		hint = "log in with the token's own tool, which sets the count back, or unblock it there"
	case errors.Is(err, private.ErrExposed):
		hint = "chmod 600 that file, and think of who may have read it"
	case errors.Is(err, sealing.ErrPIN):
		hint = "put the right PIN in place; if " + filepath.Join(dir, sealing.PINRefused) + " is there, remove it then: no PIN is tried before"
	case errors.Is(err, p11.ErrNoKey):
		hint = "--sealing-create makes it with the first sealing key; one that is gone comes back from the token's own backup, or not at all"
	case errors.Is(err, sealing.ErrTokenKey):
		hint = "name the key by its id in the URI, and see docs/steward.md for what it must be"
	case errors.Is(err, exec.ErrNotFound):
		hint = "apt-get install p11-kit"
	case errors.Is(err, p11.ErrUnreachable):
		hint = "the URI's module-path is a module's file, or the server's address that of a p11-kit server which runs, in a folder only its owner writes to"
	case errors.Is(err, sealing.ErrToken):
		hint = "p11-kit list-modules, and p11-kit -v remote MODULE </dev/null, show what the module says"
	}
	return failHint(statusFailed, hint, fmt.Errorf("the keys that seal secrets: %w", err))
}
