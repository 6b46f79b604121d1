//go:build linux

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"
)

// The host carries both connections of this workload and sees nothing of what is
// said on them; told to speak plain TCP, the same workload shows it all.
func TestLinkShowsOnlyCiphertext(t *testing.T) {
	l := newLab(t, "relay")
	ca := newAuthority(t)
	server := ca.issue(t, "localhost", time.Now().Add(time.Hour))
	said := map[string]string{}
	for _, where := range []string{"request", "answer"} {
		said[where] = "MARKER-" + where + "-" + rand.Text()
	}
	for _, prot := range []string{"tls", "tcp"} {
		t.Run(prot, func(t *testing.T) {
			var conf *tls.Config
			peerCA := ""
			if prot == "tls" {
				conf = &tls.Config{Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS13}
				peerCA = "ca = \"ca.pem\"\n"
			}
			port := answerer(t, conf, said["answer"]+" ")
			w := l.workload(t, "relay", map[string]string{"ca.pem": ca.pem(),
				"Donjon.toml": streams + webEntry(prot) + peerEntry(prot, "localhost", port) + peerCA})
			r := l.run(t, w, nil)
			var conn net.Conn
			var err error
			var keepKey *ecdsa.PublicKey
			if prot == "tls" {
				var c *tls.Conn
				if c, err = tls.Dial("tcp", r.address(t), &tls.Config{InsecureSkipVerify: true}); err == nil {
					keepKey = c.ConnectionState().PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
					conn = c
				}
			} else {
				conn, err = net.Dial("tcp", r.address(t))
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got, err := ask(conn, said["request"])
			if want := "answer " + said["answer"] + " " + said["request"]; err != nil || got != want {
				t.Fatalf("found %q, %v, wanted %q", got, err, want)
			}
			r.end(t)
			from, to := r.link.captured()
			if len(from) == 0 || len(to) < len(w.Module) {
				t.Fatalf("captured %d and %d bytes: the tap is not on the link", len(from), len(to))
			}
			for where, marker := range said {
				for dir, b := range map[string][]byte{"from the Keep": from, "to the Keep": to} {
					seen := bytes.Contains(b, []byte(marker))
					// Over TCP each marker crosses both ways: in on one connection, out on the other.
					if want := prot == "tcp"; seen != want {
						t.Errorf("the %s is seen %s: %v, wanted %v", where, dir, seen, want)
					}
				}
			}
			if prot == "tls" && holdsKey(t, from, keepKey) {
				t.Error("the private key crossed the link")
			}
		})
	}
}

// holdsKey says whether a private key stands in b, big or little endian.
func holdsKey(t *testing.T, b []byte, public *ecdsa.PublicKey) bool {
	t.Helper()
	want, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	is := func(s []byte) bool {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), s)
		if err != nil {
			return false
		}
		got, err := k.PublicKey.Bytes()
		return err == nil && bytes.Equal(got, want)
	}
	for i := 0; i+32 <= len(b); i++ {
		s := b[i : i+32]
		back := slices.Clone(s)
		slices.Reverse(back)
		if is(s) || is(back) {
			return true
		}
	}
	return false
}

func TestHoldsKeyFindsOne(t *testing.T) {
	k := newKey(t)
	raw, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b := append(append([]byte("before"), raw...), "after"...)
	if !holdsKey(t, b, &k.PublicKey) {
		t.Error("a key that is there is not found")
	}
	slices.Reverse(b)
	if !holdsKey(t, b, &k.PublicKey) {
		t.Error("a key that is there backwards is not found")
	}
	if holdsKey(t, b, &newKey(t).PublicKey) {
		t.Error("another key is found")
	}
}
