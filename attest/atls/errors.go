package atls

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// What a caller can tell apart, by errors.As and errors.Is:
//
//	*verdict.Error            the other end is not admitted, or does not speak the protocol
//	*RemoteError              the other end refuses this one; ErrBusy: for now
//	context.DeadlineExceeded  it took longer than Config.Timeout or Server.Timeout
//	ErrMalformed, ErrNotAsked, ErrUnproven   a server's client is none, or not one it takes
//	ErrCut, ErrAged           of a Conn in use
var (
	// ErrBusy is what a RemoteError with the code busy is, and what a Prover gives that
	// has too much to do.
	ErrBusy = errors.New("atls: the Keep is busy")
	// ErrMalformed is of a message that is not in its form, or not its turn. A client
	// gives a *verdict.Error in its place: nothing about such a server is genuine.
	ErrMalformed = errors.New("atls: malformed message")
	// ErrNotAsked is of a client that does not ask for the protocol.
	ErrNotAsked = errors.New("atls: the client does not ask for " + Protocol)
	// ErrUnproven is of a client that cannot prove itself, where it must.
	ErrUnproven = errors.New("atls: the client does not prove itself, and must")
	// ErrCut is of a connection that ended without TLS's close_notify: what was read may
	// not be all that was sent. It is an io.ErrUnexpectedEOF too.
	ErrCut = fmt.Errorf("atls: the connection was cut: %w", io.ErrUnexpectedEOF)
	// ErrAged is of a connection that is older than Config.MaxAge.
	ErrAged = errors.New("atls: the connection has reached its age limit: connect again")
)

// A RemoteError is the other end's refusal of this one.
type RemoteError struct {
	Code string // one of the Refuse constants, or another of up to 32 bytes
	Text string // hostile: up to 1,024 bytes
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("atls: the other end refuses (%s): %s", verdict.Escape(e.Code), verdict.Escape(e.Text))
}

// Is makes errors.Is(err, ErrBusy) work.
func (e *RemoteError) Is(target error) bool { return target == ErrBusy && e.Code == RefuseBusy }

// The codes of a refusal on the wire.
const (
	RefuseBusy      = "busy"      // too many proofs are asked for: again later
	RefuseMalformed = "malformed" // a message that is not in its form, or not its turn
	RefuseVerdict   = "verdict"   // the evidence is not admitted
	RefuseEvidence  = "evidence"  // evidence is wanted, and this end has none
	RefuseInternal  = "internal"  // no proof could be made
)

// alerted says whether TLS itself ended in an alert, the other end's or this one's.
func alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}
