package keep

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// T27: the host connects a Keep with the Steward that is measured, by the rules of
// every connection.
func TestT27Steward(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	ask := func(steward string) (link.PortReply, *link.Stream, error) {
		config := ""
		if steward != "" {
			config = "steward = \"" + steward + "\"\n"
		}
		g := supervised(t, config, nil)
		st, err := g.sess.Open(link.ServiceSteward, []byte("169.254.169.254:80")) // what it says is not read
		if err != nil {
			t.Fatal(err)
		}
		_ = st.SetDeadline(time.Now().Add(30 * time.Second))
		var r link.PortReply
		err = link.ReadRecord(st, link.MaxRecord, &r)
		return r, st, err
	}
	r, st, err := ask("https://" + l.Addr().String())
	if err != nil || !r.OK || r.Addr != l.Addr().String() {
		t.Fatalf("found %+v, %v", r, err)
	}
	b := make([]byte, 4)
	if _, err := st.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(st, b); err != nil || string(b) != "ping" {
		t.Errorf("found %q, %v", b, err)
	}
	var reset *link.ResetError
	if _, _, err := ask(""); !errors.As(err, &reset) || reset.Code != link.CodeRefused {
		t.Errorf("without a Steward: found %v", err)
	}
	if r, _, err := ask("https://169.254.169.254"); err != nil || r.OK || !strings.Contains(r.Error, "link-local") || !strings.Contains(r.Hint, "--allow-connect") {
		t.Errorf("a metadata service: found %+v, %v", r, err)
	}
	if r, _, err := ask(fmt.Sprintf("https://127.0.0.1:%d", closedPort(t))); err != nil || r.OK || !strings.Contains(r.Error, "refused") {
		t.Errorf("nobody there: found %+v, %v", r, err)
	}
}

func closedPort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// T28: a Keep that connects without end is slowed; one that renews is not.
func TestT28StewardPace(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	for i := range 2 * paceBurst {
		if got := p.take(now); got != (i < paceBurst) {
			t.Fatalf("connection %d: found %v", i, got)
		}
	}
	for i := range 100 {
		now = now.Add(paceEvery)
		if !p.take(now) || p.take(now) {
			t.Fatalf("after %d: wanted one and no more", i)
		}
	}
	now = now.Add(1000 * paceEvery)
	for range paceBurst {
		if !p.take(now) {
			t.Fatal("rest gives nothing back")
		}
	}
	if p.take(now) || p.take(now.Add(-time.Hour)) {
		t.Error("rest gives more than the burst")
	}
}
