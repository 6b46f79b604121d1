package dcap

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/pcs"
	oracle "github.com/google/go-tdx-guest/verify"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// pcsServer answers go-tdx-guest's requests from memory, as Intel's service does.
type pcsServer struct {
	tcb, qe         []byte
	signers, cas    string // issuer chains, escaped
	pckCRL, rootCRL []byte
	roots           *x509.CertPool
}

func (s *pcsServer) Get(u string) (map[string][]string, []byte, error) {
	switch {
	case strings.Contains(u, "/pckcrl"):
		return map[string][]string{pcs.SgxPckCrlIssuerChainPhrase: {s.cas}}, s.pckCRL, nil
	case strings.Contains(u, "/qe/identity"):
		return map[string][]string{pcs.SgxQeIdentityIssuerChainPhrase: {s.signers}}, s.qe, nil
	case strings.Contains(u, "/tcb?"):
		return map[string][]string{pcs.TcbInfoIssuerChainPhrase: {s.signers}}, s.tcb, nil
	case strings.HasSuffix(u, "IntelSGXRootCA.der"):
		return nil, s.rootCRL, nil
	}
	return nil, nil, errors.New("no such page: " + u)
}

func escape(list ...*x509.Certificate) string {
	var b []byte
	for _, c := range list {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return url.QueryEscape(string(b))
}

func answer(key string, d collateral.Document) []byte {
	return []byte(`{"` + key + `":` + string(d.Body) + `,"signature":"` + hex.EncodeToString(d.Signature) + `"}`)
}

// serve makes the server for a quote's chain and a set; nil where a part is missing.
func serve(t testing.TB, raw []byte, s *collateral.Set) *pcsServer {
	t.Helper()
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := parseChain(q.CertData)
	if err != nil {
		t.Fatal(err)
	}
	out := &pcsServer{tcb: answer("tcbInfo", s.TCBInfos[0]), qe: answer("enclaveIdentity", s.QEIdentities[0]), cas: escape(chain[1], chain[2]), roots: x509.NewCertPool()}
	out.roots.AddCert(chain[2])
	for _, c := range s.Certificates {
		if strings.HasSuffix(c.Subject.CommonName, "TCB Signing") {
			out.signers = escape(c, chain[2])
		}
	}
	for _, l := range s.Lists {
		if bytes.Equal(l.RawIssuer, chain[2].RawSubject) {
			out.rootCRL = l.Raw
		} else {
			out.pckCRL = l.Raw
		}
	}
	return out
}

func oracleSays(raw []byte, s *pcsServer, at time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("panic")
		}
	}()
	return oracle.RawTdxQuote(raw, &oracle.Options{GetCollateral: true, CheckRevocations: true, Getter: s, TrustedRoots: s.roots,
		Now: &oracle.TimeSet{PckCertChain: at, TcbInfo: at, QeIdentity: at, PckCrl: at, RootCaCrl: at}})
}

// weSay asks for what the oracle hard-codes: every check passed, UpToDate.
func weSay(v *Verifier, raw []byte, s *collateral.Set, at time.Time) (bool, string) {
	return upToDate(v.Verify(raw, &format.Options{At: at, Collateral: s}))
}

func upToDate(r format.Result) (bool, string) {
	for _, k := range r.Checks {
		if k.Status != verdict.Passed {
			return false, string(k.Code) + ": " + k.Found
		}
	}
	return r.Claims.Intel.Status == UpToDate, "status " + r.Claims.Intel.Status
}

// Where we and go-tdx-guest differ, and why we are right. Anything else fails the
// test.
//
//   - It accepts, we refuse, "platform": where TEE_TCB_SVN[1] > 0 it looks at the TDX
//     module's level alone and drops the platform's. Intel's library converges the
//     two: a platform that is OutOfDate with a module that is UpToDate is OutOfDate.
//   - It accepts, we refuse, "padding": it keeps whatever follows the quote; quoting
//     services pad with zeros, so anything else is not theirs.
//   - It accepts, we refuse, "before": it knows no issueDate or thisUpdate; a document
//     from the future is not current.
const (
	dPlatform = "platform"
	dPadding  = "padding"
	dBefore   = "before"
)

func TestAgainstOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2026))
	seen := map[string]int{}
	inputs := 0
	for _, c := range real {
		if !strings.HasPrefix(c.name, "tdx") {
			continue
		}
		raw, set, at := evidence(t, c.quote), c.set(t), noon(c.at)
		q, err := ParseQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		end := len(raw) - q.Padding
		v := &Verifier{}
		compare := func(kind string, b []byte, s *collateral.Set, at time.Time, srv *pcsServer, may ...string) {
			inputs++
			theirs := oracleSays(b, srv, at)
			ours, why := weSay(v, b, s, at)
			if (theirs == nil) == ours {
				return
			}
			if c.platform == OutOfDate && theirs == nil {
				seen[dPlatform]++
				return
			}
			if len(may) > 0 {
				seen[may[0]]++
				return
			}
			t.Errorf("%s, %s: go-tdx-guest says %v, we say %v (%s)", c.name, kind, theirs, ours, why)
		}
		server := serve(t, raw, set)
		compare("as it is", raw, set, at, server)
		for range 450 { // a changed byte in what is a quote
			b := bytes.Clone(raw)
			i := rng.IntN(end)
			b[i] ^= byte(1 + rng.IntN(255))
			compare("changed byte", b, set, at, server)
		}
		for range 60 {
			compare("cut", raw[:rng.IntN(end)], set, at, server)
		}
		for range 20 {
			b := append(bytes.Clone(raw[:end]), make([]byte, 32)...)
			b[end+rng.IntN(32)] = 1
			compare("padding", b, set, at, server, dPadding)
		}
		for range 60 {
			days := rng.IntN(800) - 400
			may := []string{}
			if days < 0 {
				may = append(may, dBefore)
			}
			compare("other time", raw, set, at.AddDate(0, 0, days), server, may...)
		}
		for range 120 { // a changed byte in the signed documents
			s := *set
			s.TCBInfos = []collateral.Document{changed(rng, set.TCBInfos[0])}
			compare("changed TCB info", raw, &s, at, serve(t, raw, &s))
			s = *set
			s.QEIdentities = []collateral.Document{changed(rng, set.QEIdentities[0])}
			compare("changed QE identity", raw, &s, at, serve(t, raw, &s))
		}
	}
	t.Logf("%d inputs; differences: %v", inputs, seen)
	if seen[dPlatform] == 0 {
		t.Error("go-tdx-guest no longer accepts an OutOfDate platform: take the divergence off the list")
	}
}

func changed(rng *rand.Rand, d collateral.Document) collateral.Document {
	out := collateral.Document{Body: bytes.Clone(d.Body), Signature: bytes.Clone(d.Signature)}
	if rng.IntN(4) == 0 {
		out.Signature[rng.IntN(len(out.Signature))] ^= byte(1 + rng.IntN(255))
		return out
	}
	out.Body[rng.IntN(len(out.Body))] ^= byte(1 + rng.IntN(255))
	return out
}

// intelNames gives a synthetic hierarchy the names and forms that go-tdx-guest
// demands: its own root pool is all that sets it apart from Intel's.
func intelNames(what string, c *x509.Certificate) {
	c.Subject = pkix.Name{CommonName: map[string]string{synthetic.IntelRoot: "Intel SGX Root CA", synthetic.IntelCA: "Intel SGX PCK Platform CA",
		synthetic.IntelPCK: "Intel SGX PCK Certificate", synthetic.IntelSigner: "Intel SGX TCB Signing"}[what],
		Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"}}
	c.SubjectKeyId = []byte(what)
	c.CRLDistributionPoints = []string{"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"}
}

// TestAgainstOracleLevels compares platforms at random with levels at random.
func TestAgainstOracleLevels(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 2026))
	statuses := []string{UpToDate, UpToDate, UpToDate, SWHardeningNeeded, ConfigurationNeeded, OutOfDate, Revoked}
	good, seen := 0, 0
	for n := range 500 {
		m := synthetic.NewMachine()
		m.CompSVN[rng.IntN(16)] += rng.IntN(3) - 1
		m.PCESVN += rng.IntN(4) - 2
		m.CompSVN[9] = max(0, m.CompSVN[9])
		for i := range m.CompSVN {
			m.CompSVN[i] = max(0, m.CompSVN[i])
		}
		version, body := uint16(4), uint16(2)
		if n%2 == 0 {
			version, body = 5, 2+uint16(rng.IntN(2))
		}
		s, err := synthetic.NewScene(version, body, synthetic.IntelOptions{Machine: &m, Edit: intelNames})
		if err != nil {
			t.Fatal(err)
		}
		s.Quote.Body[1] = []byte{0, 1, 1, 1, 3, 5}[rng.IntN(6)]
		s.Quote.Body[0], s.Quote.Body[2] = byte(2+rng.IntN(7)), byte(1+rng.IntN(3))
		if body == 3 { // what runs now is what was launched: go-tdx-guest looks at the launch alone
			copy(s.Quote.Body[synthetic.TDTEETCBSVN2:], s.Quote.Body[:16])
		}
		s.Quote.QEReport[synthetic.SGXSVN] = byte(3 + rng.IntN(8))
		for i := range s.TCBInfo.Levels {
			s.TCBInfo.Levels[i].Status = statuses[rng.IntN(len(statuses))]
		}
		x, err := s.Vector("", "", "")
		if err != nil {
			t.Fatal(err)
		}
		theirs := oracleSays(x.Evidence, serve(t, x.Evidence, x.Collateral), x.At)
		r := (&Verifier{}).Verify(x.Evidence, &format.Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots})
		ours, why := upToDate(r)
		if ours {
			good++
		}
		in := r.Claims.Intel
		switch {
		case (theirs == nil) == ours:
		case theirs == nil && in.PlatformStatus != UpToDate && in.ModuleStatus == UpToDate:
			seen++ // dPlatform
		default:
			t.Errorf("%d: go-tdx-guest says %v, we say %v (%s); platform %s, module %s, QE %s", n, theirs, ours, why, in.PlatformStatus, in.ModuleStatus, in.QEStatus)
		}
	}
	if good < 20 || seen == 0 {
		t.Errorf("found %d that both accept and %d that it accepts with a platform that is not up to date: the test shows nothing", good, seen)
	}
	t.Logf("%d of 500 accepted by both, %d by go-tdx-guest alone", good, seen)
}
