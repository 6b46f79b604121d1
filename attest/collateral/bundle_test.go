package collateral

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/published"
)

var day = time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)

func TestBundle(t *testing.T) {
	s := add(t, published.Read(t, "tdx/quote-v4.collateral.json"))
	if err := s.Add("vcek", published.Read(t, "snp/turin-v5.vcek.pem")); err != nil {
		t.Fatal(err)
	}
	var b, reversed Bundle
	b.Add(s, day.Add(300*time.Millisecond))
	b.Add(s, day.Add(-time.Hour)) // known already, the later moment counts
	for i := range b.Items {
		reversed.Items = append(reversed.Items, b.Items[len(b.Items)-1-i])
	}
	enc, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := reversed.Encode(); err != nil || !bytes.Equal(enc, again) {
		t.Error("the order of the items shows in the encoding")
	}
	back, err := ParseBundle(enc)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := counts(back.Set()), counts(s); got != want || !back.Items[0].Fetched.Equal(day) {
		t.Errorf("found %v of %v, wanted %v of %v", got, back.Items[0].Fetched, want, day)
	}
	if !bytes.Equal(back.Set().TCBInfos[0].Body, s.TCBInfos[0].Body) {
		t.Error("the TCB info's bytes changed")
	}
	if got, want := counts(add(t, enc)), counts(s); got != want {
		t.Errorf("Add of the bundle: found %v, wanted %v", got, want)
	}

	str := string(enc)
	for name, bad := range map[string]string{
		"version":       strings.Replace(str, `"version": 1`, `"version": 2`, 1),
		"media type":    strings.Replace(str, "donjon.collateral", "donjon.other", 1),
		"white space":   strings.Replace(str, "\n ", "\n  ", 1),
		"name's case":   strings.Replace(str, `"version"`, `"Version"`, 1),
		"unknown field": strings.Replace(str, `"version": 1,`, `"version": 1, "more": 2,`, 1),
		"twice":         strings.Replace(str, `"version": 1,`, `"version": 1, "version": 1,`, 1),
		"moment":        strings.Replace(str, "2025-06-20T12:00:00Z", "2025-06-20T12:00:00+00:00", 1),
		"kind":          strings.Replace(str, `"kind": "crl"`, `"kind": "certificate"`, 1),
		"bytes after":   str + "x",
		"cut short":     str[:len(str)/2],
		"bad der":       strings.Replace(str, `"der": "MII`, `"der": "MIJ`, 1),
	} {
		if bad == str {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if _, err := ParseBundle([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if s := add(t, []byte(bad)); len(s.Ignored) != 1 || len(s.Certificates) > 0 {
			t.Errorf("%s: Add found %v", name, counts(s))
		}
	}
	b.Items = append(b.Items, Item{Kind: List, DER: []byte{1}, Fetched: day})
	if _, err := b.Encode(); err == nil {
		t.Error("an item that is no list was encoded")
	}
	if _, err := ParseBundle(make([]byte, MaxFile+1)); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
}

func TestSummary(t *testing.T) {
	var b Bundle
	for _, n := range []string{"tdx/live.tcbinfo.json", "tdx/live.qeidentity.json", "tdx/live.root-ca-crl.der", "snp/turin-v5.vcek.pem"} {
		b.Add(add(t, published.Read(t, n)), day)
	}
	at := time.Date(2026, 3, 30, 20, 0, 0, 0, time.UTC)
	got := b.Summary(at)
	if len(got) != 4 {
		t.Fatalf("found %d lines, wanted 4", len(got))
	}
	for _, l := range got {
		if l.Expired || l.Future {
			t.Errorf("%+v: expired or not begun at %s", l, at)
		}
		switch l.Kind {
		case TCBInfo:
			if l.TEE != "TDX" || l.FMSPC != "b0c06f000000" || l.Eval != 18 || l.Until.Format(time.DateOnly) != "2026-03-31" {
				t.Errorf("%+v", l)
			}
		case QEIdentity:
			if l.TEE != "TD_QE" || l.FMSPC != "" {
				t.Errorf("%+v", l)
			}
		case List:
			if !strings.Contains(l.Issuer, "Intel SGX Root CA") || l.Number != "1" {
				t.Errorf("%+v", l)
			}
		case Certificate:
			if len(l.Chip) != 16 || !strings.Contains(l.Issuer, "SEV-Turin") {
				t.Errorf("%+v", l)
			}
		}
	}
	for _, l := range b.Summary(at.AddDate(2, 0, 0)) {
		if l.Expired != (l.Kind != Certificate) {
			t.Errorf("two years later: %+v", l)
		}
	}
	for _, l := range b.Summary(at.AddDate(-2, 0, 0)) {
		if !l.Future {
			t.Errorf("two years before: %+v", l)
		}
	}
}

func TestHead(t *testing.T) {
	good := `{"id":"TDX","issueDate":"2025-06-19T10:16:03Z","nextUpdate":"2025-07-19T10:16:03Z","fmspc":"B0C06F000000","tcbEvaluationDataNumber":17}`
	if h, err := (Document{Body: []byte(good)}).Head(); err != nil || h.FMSPC != "b0c06f000000" || h.Evaluation != 17 {
		t.Errorf("found %+v, %v", h, err)
	}
	for _, c := range [][2]string{{"B0C06F000000", "B0C06F0000"}, {"B0C06F000000", "x0C06F000000"}, {":17", ":-1"}, {":17", ":null"}, {":17", ":4294967296"}, {`"issueDate"`, `"IssueDate"`}, {"2025-07-19T10", "2025-07-19 10"}, {`"TDX"`, "1"}} {
		if _, err := (Document{Body: []byte(strings.Replace(good, c[0], c[1], 1))}).Head(); err == nil {
			t.Errorf("%s for %s: accepted", c[1], c[0])
		}
	}
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte(`{"media_type":"` + MediaType + `","version":1,"items":[]}`))
	empty, err := (&Bundle{}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	if list := published.Find(f, "tdx/live.root-ca-crl.der"); list != nil {
		s := &Set{}
		_ = s.Add("", list)
		_ = s.Add("", published.Read(f, "tdx/live.qeidentity.json"))
		var b Bundle
		b.Add(s, day)
		enc, err := b.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := ParseBundle(raw)
		if err != nil {
			return
		}
		enc, err := b.Encode()
		if err != nil || !bytes.Equal(bytes.TrimSpace(enc), bytes.TrimSpace(raw)) {
			t.Fatalf("parsed, but encoded otherwise: %v", err)
		}
		b.Summary(day)
	})
}
