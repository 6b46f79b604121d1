package dcap

import (
	"testing"

	"github.com/donjon-tee/donjon/attest/format"
)

func FuzzQuote(f *testing.F) {
	list := forms(f)
	for _, x := range list {
		f.Add(x.Evidence)
		f.Add(x.Evidence[:700])
	}
	v := &Verifier{}
	o := &format.Options{At: list[0].At, Collateral: list[0].Collateral, SimulatedRoots: list[0].Roots}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseQuote(b)
		fields, lerr := Layout(b)
		if (err == nil) != (lerr == nil) {
			t.Errorf("parse says %v, layout %v", err, lerr)
		}
		at := 0
		for _, x := range fields {
			if x.Offset != at || x.Size < 0 || at+x.Size > len(b) {
				t.Fatalf("field %s at %d, %d bytes, of %d", x.Name, x.Offset, x.Size, len(b))
			}
			at += x.Size
		}
		if err == nil && (q.Enclave == nil) == (q.TD == nil) {
			t.Error("neither or both of an enclave and a TD")
		}
		if r := v.Verify(b, o); len(r.Checks) == 0 || err != nil && r.Claims != nil {
			t.Errorf("found %v", r.Checks)
		}
	})
}

func FuzzTCBInfo(f *testing.F) {
	list := forms(f)
	p, err := ParsePlatform(chainOf(f, list[3].Evidence).pck)
	if err != nil {
		f.Fatal(err)
	}
	for _, x := range list {
		f.Add([]byte(x.Collateral.TCBInfos[0].Body))
	}
	f.Add([]byte(`{"id":"SGX","version":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := parseTCBInfo(b)
		if err != nil {
			return
		}
		for _, tee := range [][]byte{nil, make([]byte, 16), {7, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
			if i.ID == "SGX" && tee != nil {
				continue
			}
			if s := i.stand(p, tee); s.status == "" || s.status == NotSupported && s.why == "" {
				t.Errorf("found %+v", s)
			}
		}
	})
}

func FuzzQEIdentity(f *testing.F) {
	list := forms(f)
	for _, x := range list {
		f.Add([]byte(x.Collateral.QEIdentities[0].Body))
	}
	q, err := ParseQuote(list[0].Evidence)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, err := parseQEIdentity(b); err == nil {
			i.differs(q.QEReport)
			reached(i.Levels, q.QEReport.ISVSVN)
		}
	})
}

func FuzzPlatform(f *testing.F) {
	c := chainOf(f, forms(f)[0].Evidence)
	for _, x := range c.pck.Extensions {
		if x.Id.Equal(sgxArc) {
			f.Add(x.Value)
		}
	}
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePlatform(b); err == nil && (len(p.FMSPC) != 6 || len(p.PCEID) != 2 || len(p.PPID) != 16) {
			t.Errorf("found %+v", p)
		}
	})
}

func FuzzChain(f *testing.F) {
	q, err := ParseQuote(forms(f)[0].Evidence)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q.CertData)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := parseChain(b); err == nil && (len(list) < 2 || len(list) > 3) {
			t.Errorf("found %d certificates", len(list))
		}
	})
}

func chainOf(t testing.TB, raw []byte) *pckChain {
	t.Helper()
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := (&Verifier{}).chain(q.CertData)
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c
}
