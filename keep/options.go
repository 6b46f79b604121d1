package keep

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// Silicon is the simulated secure processor that answers a Keep's requests.
type Silicon interface {
	Report(data [64]byte) ([]byte, error)
	Certs() []byte
	// DeriveKey takes the processor's own request form.
	DeriveKey(request []byte) ([]byte, error)
}

// Ceilings are the host's own bounds, applied as the minimum with what the
// configuration says (THREATS T28). Zero values mean the defaults.
type Ceilings struct {
	Memory uint64        // bytes of guest memory; 0: 4 GiB
	CPU    time.Duration // 0: none
	Dials  int           // connections to peers over the Keep's life; 0: 256
	Log    int64         // bytes of log, each line 64 more than its text; 0: 1 MiB
}

// Options say how a Keep is supervised.
type Options struct {
	Workload       *workload.Workload
	Signatures     [][]byte // that stand beside it, for the Keep's Steward and its peers
	Machine        Machine
	TEE            string
	Silicon        Silicon
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer
	Terminals      uint8             // bits 0 to 2: stdin, stdout, stderr are a terminal
	Bind           map[string]string // listener name → address:port instead of the configured one
	HostDirs       []*os.Root        // in the order of the configuration's host_dirs
	Dialer         Dialer
	Blobs          Blobs
	Ceilings       Ceilings
	// Stop ends the Keep when it is closed: listeners and stdin close at once,
	// the rest within Grace (0: 2 s).
	Stop  <-chan struct{}
	Grace time.Duration
	// WantEvidence asks for evidence once the Keep can give it. Nonce may be nil.
	// Evidence that cannot be had or that OnEvidence refuses ends the Keep.
	WantEvidence bool
	Nonce        []byte
	OnEvidence   func([]byte) error
	// Log is called with what the Keep says (unescaped) and what goes on here;
	// level 1 is for --verbose.
	Log func(level int, text string)
	// Patience is how long the Keep may take to say hello and to ask for its
	// workload; 0: 30 s each.
	Patience time.Duration
	NoCache  bool
	Weak     bool
	Verbose  bool
	// attend is called once the Keep has spoken, and returns at once.
	attend func(*link.Session)
}

// Outcome is how a Keep ended.
type Outcome struct {
	Exit    link.Exit
	Stopped bool // it was asked to stop
}

// A StageError says at which stage a Keep was lost, with the last lines that it
// printed outside the link.
type StageError struct {
	Stage   string
	Err     error
	Console []string
}

func (e *StageError) Error() string {
	s := fmt.Sprintf("the Keep failed at stage %q: %v", e.Stage, e.Err)
	for _, l := range e.Console {
		s += "\n  | " + l
	}
	return s
}

func (e *StageError) Unwrap() error { return e.Err }

// An OutputError says that what the workload writes cannot be handed on: its
// reader is gone (EPIPE), a disk is full. It ends the Keep.
type OutputError struct {
	What string // stdout or stderr
	Err  error
}

func (e *OutputError) Error() string { return e.What + " cannot be written: " + e.Err.Error() }

func (e *OutputError) Unwrap() error { return e.Err }
