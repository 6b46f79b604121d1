package atls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/envelope"
)

// A message on the wire is one byte of type, four of length (big endian), and a body:
// one deterministic CBOR map, decoded strictly, so that one message has one form.
type kind uint8

const (
	kindRequest  kind = 1 // client: prove yourself
	kindEvidence kind = 2 // server: here is my proof; in the mutual form: and now you
	kindProof    kind = 3 // client, mutual form: here is mine, and yours was admitted
	kindAccept   kind = 4 // who has nothing left to ask for: the application's bytes follow
	kindRefuse   kind = 5 // either, instead of any message: the connection ends
)

// Bounds of the bodies, in bytes.
const (
	maxSmall    = 256
	maxRefusal  = 2048
	maxBeside   = 8 << 10 // what stands beside evidence in its message
	maxEvidence = envelope.MaxSize + maxBeside
	maxAttached = 4 << 10 // a workload's signature beside its evidence
	maxCode     = 32
	maxText     = 1024
)

func (k kind) most() int {
	switch k {
	case kindRequest, kindAccept:
		return maxSmall
	case kindEvidence, kindProof:
		return maxEvidence
	case kindRefuse:
		return maxRefusal
	}
	return 0
}

// request is the client's first message.
type request struct {
	Nonce []byte `cbor:"nonce"` // NonceSize bytes, random, never used before
	// Attested says that the client can prove itself, and wants to where it is asked.
	Attested bool `cbor:"attested,omitempty"`
}

// proof is evidence of one end.
type proof struct {
	Evidence []byte `cbor:"evidence"`
	// Nonce is the server's, where the client must prove itself.
	Nonce []byte `cbor:"nonce,omitempty"`
	// Signature is a signature over the workload by whoever made it, unjudged, where
	// there is one.
	Signature []byte `cbor:"signature,omitempty"`
}

type accept struct{}

type refusal struct {
	Code string `cbor:"code"`
	Text string `cbor:"text,omitempty"`
}

func encoding() (cbor.EncMode, error) { return cbor.CoreDetEncOptions().EncMode() }

func decoding() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4,
		MaxArrayElements: 16, MaxMapPairs: 16, TagsMd: cbor.TagsForbidden,
	}.DecMode()
}

// write sends one message.
func write(w io.Writer, k kind, body any) error {
	m, err := encoding()
	if err != nil {
		return err
	}
	b, err := m.Marshal(body)
	if err != nil {
		return err
	}
	if len(b) > k.most() {
		return fmt.Errorf("atls: a message of %d bytes, at most %d", len(b), k.most())
	}
	out := make([]byte, 5, 5+len(b))
	out[0] = byte(k)
	binary.BigEndian.PutUint32(out[1:], uint32(len(b)))
	_, err = w.Write(append(out, b...))
	return err
}

// read takes one message of a kind that is awaited, or a refusal, which it gives as a
// *RemoteError.
func read(r io.Reader, want ...kind) (kind, []byte, error) {
	return readAtMost(r, maxEvidence, want...)
}

// readAtMost is read of bodies of at most most bytes.
func readAtMost(r io.Reader, most int, want ...kind) (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	k, n := kind(head[0]), binary.BigEndian.Uint32(head[1:])
	if k != kindRefuse && !bytes.Contains(kinds(want), head[:1]) {
		return 0, nil, fmt.Errorf("%w: found the type %d, wanted %v", ErrMalformed, k, want)
	}
	if most = min(most, k.most()); int64(n) > int64(most) {
		return 0, nil, fmt.Errorf("%w: type %d with %d bytes, at most %d", ErrMalformed, k, n, most)
	}
	body, err := readBody(r, int(n))
	if err != nil {
		return 0, nil, err
	}
	if k == kindRefuse {
		var f refusal
		if err := decode(body, &f); err != nil {
			return 0, nil, err
		}
		if f.Code == "" || len(f.Code) > maxCode || len(f.Text) > maxText {
			return 0, nil, fmt.Errorf("%w: a refusal without a code, or with a longer one than is allowed", ErrMalformed)
		}
		return 0, nil, &RemoteError{Code: f.Code, Text: f.Text}
	}
	return k, body, nil
}

// firstRead is room for the evidence of most Keeps.
const firstRead = 16 << 10

// readBody reads n bytes. What it takes doubles with what has come, and does not go by what
// is said to come.
func readBody(r io.Reader, n int) ([]byte, error) {
	var b []byte
	for len(b) < n {
		have := len(b)
		more := min(n-have, max(have, firstRead))
		b = slices.Grow(b, more)[:have+more]
		if _, err := io.ReadFull(r, b[have:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func kinds(list []kind) []byte {
	out := make([]byte, len(list))
	for i, k := range list {
		out[i] = byte(k)
	}
	return out
}

// decode reads a body that would encode to the same bytes, and nothing else.
func decode(b []byte, v any) error {
	m, err := decoding()
	if err != nil {
		return err
	}
	if err := m.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	e, err := encoding()
	if err != nil {
		return err
	}
	again, err := e.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%w: not in its one deterministic form", ErrMalformed)
	}
	return nil
}

func decodeRequest(b []byte) (request, error) {
	var q request
	if err := decode(b, &q); err != nil {
		return q, err
	}
	if len(q.Nonce) != NonceSize {
		return q, fmt.Errorf("%w: a nonce of %d bytes, wanted %d", ErrMalformed, len(q.Nonce), NonceSize)
	}
	return q, nil
}

// decodeProof reads an evidence or proof message; only the former may hold a nonce.
func decodeProof(k kind, b []byte) (proof, error) {
	var p proof
	if err := decode(b, &p); err != nil {
		return p, err
	}
	switch n := len(p.Nonce); {
	case len(p.Evidence) == 0 || len(p.Evidence) > envelope.MaxSize:
		return p, fmt.Errorf("%w: evidence of %d bytes", ErrMalformed, len(p.Evidence))
	case n != 0 && (n != NonceSize || k != kindEvidence):
		return p, fmt.Errorf("%w: a nonce of %d bytes, wanted %d from a server and none from a client", ErrMalformed, n, NonceSize)
	case len(p.Signature) > maxAttached:
		return p, fmt.Errorf("%w: a signature of %d bytes, at most %d", ErrMalformed, len(p.Signature), maxAttached)
	}
	return p, nil
}
