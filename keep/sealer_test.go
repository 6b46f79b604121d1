package keep

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// used runs UseSealer against a Keep that the test plays: it serves the streams that
// the host opens.
func used(t *testing.T, timeout time.Duration, keep func(*link.Session), use func(*Sealer) error) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if sess, err := link.Guest(b); err == nil {
			st, err := sess.Open(link.ServiceWorkload, nil) // it asks for its workload
			if err == nil {
				defer st.Close()
			}
			keep(sess)
			_ = sess.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err = UseSealer(ctx, Options{Workload: workload.Sealer(), Machine: &guest{conn: a}, Silicon: slow{make(chan struct{})}, Log: func(int, string) {}, Grace: 50 * time.Millisecond}, use)
	_ = b.Close()
	<-ended
	return err
}

// sealsWith serves the sealer's stream with a record, and stops when asked.
func sealsWith(record func(link.SealRequest) any) func(*link.Session) {
	return func(sess *link.Session) {
		for {
			st, err := sess.Accept()
			if err != nil || st.Service() == link.ServiceStop {
				return
			}
			var q link.SealRequest
			if st.Service() != link.ServiceSeal || link.ReadRecord(st, link.MaxSealRecord, &q) != nil {
				st.Reset(link.CodeUnknown, "what?")
				continue
			}
			switch a := record(q).(type) {
			case []byte:
				_ = link.WriteRaw(st, a)
			default:
				_ = link.WriteRecord(st, a)
			}
			_ = st.CloseWrite()
		}
	}
}

func seal(got *[]byte) func(*Sealer) error {
	return func(s *Sealer) (err error) {
		*got, err = s.Seal([]byte("plain"), []byte("aad"))
		return err
	}
}

func TestUseSealer(t *testing.T) {
	var got []byte
	echo := sealsWith(func(q link.SealRequest) any { return link.SealReply{Data: append(q.Data, q.AAD...)} })
	if err := used(t, 30*time.Second, echo, seal(&got)); err != nil || string(got) != "plainaad" {
		t.Fatalf("found %q, %v", got, err)
	}
	own := errors.New("the user's own")
	if err := used(t, 30*time.Second, echo, func(*Sealer) error { return own }); !errors.Is(err, own) {
		t.Errorf("found %v", err)
	}
	if err := UseSealer(context.Background(), Options{}, nil); err == nil {
		t.Error("used without a deadline")
	}
	err := used(t, 30*time.Second, echo, func(s *Sealer) error {
		_, err := s.Seal(make([]byte, link.MaxSealPlain+1), nil)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "a sealer's request") {
		t.Errorf("too much: found %v", err)
	}
}

// A Keep that lies, says nothing, or goes away: an error in time, and never an answer.
func TestHostileSealer(t *testing.T) {
	huge := bytes.Repeat([]byte{0xff}, link.MaxSealRecord+1)
	for name, c := range map[string]struct {
		keep func(*link.Session)
		text string
	}{
		"an error":        {sealsWith(func(link.SealRequest) any { return link.SealReply{Error: "no\x1b[2J"} }), "the Keep says no"},
		"an empty answer": {sealsWith(func(link.SealRequest) any { return link.SealReply{} }), "the Keep says"},
		"no CBOR":         {sealsWith(func(link.SealRequest) any { return []byte{0xff} }), "does not decode"},
		"too long":        {sealsWith(func(link.SealRequest) any { return huge }), "at most"},
		"another record":  {sealsWith(anotherKind), "link"},
		"gone":            {func(*link.Session) {}, "the Keep failed at stage"},
		"its last word": {func(s *link.Session) {
			if st, err := s.Open(link.ServiceExit, nil); err == nil {
				_ = link.WriteRecord(st, link.Exit{Kind: link.ExitRefused, Text: "not this one"})
				_ = st.CloseWrite()
				time.Sleep(200 * time.Millisecond)
			}
		}, "not this one"},
		"silent": {func(s *link.Session) { <-s.Done() }, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			begun := time.Now()
			err := used(t, 2*time.Second, c.keep, seal(&got))
			if err == nil || got != nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("found %q, %v, wanted %q", got, err, c.text)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// anotherKind answers with a record of another kind.
func anotherKind(link.SealRequest) any { return link.Exit{Kind: 1, Status: 7, Text: "x"} }
