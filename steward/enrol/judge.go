package enrol

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/workload"
)

const (
	maxManifest = workload.MaxManifest
	maxConfig   = workload.MaxConfig
	// maxCarried bounds the evidence in a certificate, in bytes: usual TLS clients take
	// chains of 100 KB at most.
	maxCarried  = 32 << 10
	sourceEnrol = "docs/steward-protocol.md, binding"
)

// parsedRequest is what is taken from a PKCS#10 request: the key and the evidence,
// and none of the names it asks for.
type parsedRequest struct {
	key  crypto.PublicKey
	spki []byte
	cmw  []byte // the value of id-pe-cmw
	// carried is the evidence in both forms that a certificate carries, without the
	// collateral that may be stapled to it: that is for judging now, ages apart from
	// the evidence, and can be a hundred times its size.
	carried []pkix.Extension
	// nonce is what the evidence's claims say, before anything is verified: it only
	// decides whether verifying is worth it.
	nonce []byte
}

func parseRequest(der []byte) (parsedRequest, error) {
	c, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return parsedRequest{}, fmt.Errorf("the request: %w", err)
	}
	if !bytes.Equal(c.Raw, der) {
		return parsedRequest{}, errors.New("the request: bytes behind it")
	}
	if err := authority.CheckKey(c.PublicKey); err != nil {
		return parsedRequest{}, fmt.Errorf("the request: %w", err)
	}
	out := parsedRequest{key: c.PublicKey, spki: c.RawSubjectPublicKeyInfo}
	for _, x := range c.Extensions {
		if x.Id.Equal(authority.CMWOID) {
			if out.cmw != nil {
				return parsedRequest{}, errors.New("the request: the extension id-pe-cmw stands twice")
			}
			out.cmw = x.Value
		}
	}
	if out.cmw == nil {
		return parsedRequest{}, errors.New("the request: no extension id-pe-cmw with evidence")
	}
	var collection []byte
	if rest, err := asn1.Unmarshal(out.cmw, &collection); err != nil || len(rest) > 0 {
		return parsedRequest{}, errors.New("the request: id-pe-cmw holds no CBOR in an OCTET STRING")
	}
	e, err := evidence.Parse(collection)
	if err != nil {
		return parsedRequest{}, fmt.Errorf("the request: %w", err)
	}
	own, err := evidence.ParseClaims(e.Claims)
	if err != nil {
		return parsedRequest{}, fmt.Errorf("the request's evidence: %w", err)
	}
	out.nonce = own.Nonce
	e.Collateral = nil
	if out.carried, err = evidence.CertificateExtensions(e); err != nil {
		return parsedRequest{}, fmt.Errorf("the request's evidence: %w", err)
	}
	if n := len(out.carried[0].Value) + len(out.carried[1].Value); n > maxCarried {
		return parsedRequest{}, fmt.Errorf("the request's evidence: %d bytes in a certificate, at most %d", n, maxCarried)
	}
	return out, nil
}

// judge has the evidence judged by the policy and holds it against this connection,
// this Steward and what else was sent. It gives the code of the refusal, or "".
func (s *Service) judge(r *request) Code {
	p := *r.doc.Policy
	if !s.o.AllowSimulated {
		p.AllowSimulated = false
	}
	if r.signed != nil {
		p.Workloads = []policy.Digest{r.digest[:]} // the signature names it
	}
	o := attest.Options{At: r.at, Policy: &p, Nonce: r.challenge, Purpose: evidence.PurposeEnrol, Seen: s.o.Seen}
	if s.o.Collateral != nil {
		o.Collateral = s.o.Collateral()
	}
	v := s.verifier.Verify(r.Request, o)
	s.sayFlag(v, r.doc.Policy)
	r.verdict = v
	bound := s.binding(r)
	v.Checks = append(v.Checks, bound...)
	if v.Claims != nil {
		v.Checks = append(v.Checks, r.doc.Grant.platformCheck(v.Claims, false))
	}
	if r.signed != nil {
		v.Checks = append(v.Checks, signedChecks(r.signed)...)
	}
	r.conclude()
	switch v.Outcome {
	case verdict.Admitted:
		return ""
	case verdict.Refused:
		return CodeRefused
	case verdict.CannotTell:
		return CodeCannotTell
	}
	// Where nothing but the binding fails, the evidence is genuine and made for
	// something else.
	for _, c := range v.Deciding() {
		if c.Code == verdict.Form {
			return CodeMalformed
		}
		if !bindings[c.Code] {
			return CodeNotGenuine
		}
	}
	return CodeBinding
}

// sayFlag makes the hint right where it is this Steward that does not allow simulated
// evidence, whatever the policy says.
func (s *Service) sayFlag(v *verdict.Verdict, p *policy.Policy) {
	if s.o.AllowSimulated {
		return
	}
	const flag = "this Steward was started without --allow-simulated (in steward.toml: allow_simulated = true), which is for development: nothing simulated is confidential"
	hint := "the policy allows it, but " + flag
	if !p.AllowSimulated {
		hint = "neither does the policy allow it (donjon steward workload allow --allow-simulated), nor this Steward: " + flag
	}
	for i, c := range v.Checks {
		if c.Code == verdict.SimulatedRoot && c.Status == verdict.Failed {
			v.Checks[i] = c.From("policy: allow_simulated; donjon steward serve --allow-simulated").Advise(hint)
		}
	}
}

// bindings are the checks of what evidence was made for.
var bindings = map[verdict.Code]bool{
	verdict.ChannelBinding: true, verdict.KeyBinding: true, verdict.HostData: true, verdict.Nonce: true, verdict.Purpose: true,
}

// binding makes the checks that only the Steward can make (THREATS T4). They do not
// depend on the policy, and no policy waives them.
func (s *Service) binding(r *request) []verdict.Check {
	c := r.verdict.Claims
	if c == nil {
		return nil // not even the form holds: there are failed checks enough
	}
	k := c.Keep
	if k == nil {
		return []verdict.Check{verdict.Fail(verdict.KeyBinding, "no claims of Donjon's", "claims of the purpose enrol").From(sourceEnrol)}
	}
	exporter, err := r.peer.Exporter(r.challenge)
	if err != nil {
		exporter = nil
	}
	sealing := sha256.Sum256(r.SealingKey)
	compare := func(code verdict.Code, what string, found, wanted []byte) verdict.Check {
		if len(wanted) == 32 && subtle.ConstantTimeCompare(found, wanted) == 1 {
			return verdict.Pass(code, what+" "+hex.EncodeToString(found)).From(sourceEnrol)
		}
		return verdict.Fail(code, what+" "+hex.EncodeToString(found), hex.EncodeToString(wanted)).From(sourceEnrol).
			Advise("this evidence was made for something else: somebody may stand between the Keep and this Steward")
	}
	host := []byte(c.HostData)
	if len(host) > 32 && bytes.Count(host[32:], []byte{0}) == len(host)-32 {
		host = host[:32]
	}
	return []verdict.Check{
		compare(verdict.ChannelBinding, "the connection's exporter", k.Exporter, exporter),
		compare(verdict.ChannelBinding, "the Steward's key", k.StewardKey, s.stewardKey[:]),
		compare(verdict.KeyBinding, "the sealing key", k.SealingKey, sealing[:]),
		compare(verdict.KeyBinding, "the certified key", c.Key, authority.SPKI(r.csr.spki)),
		compare(verdict.Nonce, "the challenge's SHA-256", hashOf(k.Nonce), hashOf(r.challenge)),
		compare(verdict.HostData, "the host data, the workload digest", host, r.digest[:]),
		r.configCheck(),
	}
}

func hashOf(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// configCheck holds the configuration against the manifest that names it.
func (r *request) configCheck() verdict.Check {
	m, err := workload.ParseManifest(r.Manifest)
	if err != nil {
		return verdict.Fail(verdict.HostData, "a manifest that does not parse: "+err.Error(), "a workload's manifest").From(sourceEnrol)
	}
	if got := workload.Digest(sha256.Sum256(r.Config)); got != m.Config.Digest {
		return verdict.Fail(verdict.HostData, "the configuration "+got.String(), m.Config.Digest.String()+", as the manifest names it").From(sourceEnrol)
	}
	return verdict.Pass(verdict.HostData, "the configuration is the manifest's").From(sourceEnrol)
}

// unknownWorkload is the verdict on a workload that nobody allowed: nothing is
// judged.
func unknownWorkload(r *request) *verdict.Verdict {
	return unjudged(r, verdict.Fail(verdict.Workload, r.subject, "a workload that this Steward allows").From("the Steward's policies").
		Advise("donjon steward workload allow records it; one changed byte makes another workload"))
}

// unjudged is the verdict where one check decides before any evidence is looked at.
func unjudged(r *request, c verdict.Check) *verdict.Verdict {
	v := &verdict.Verdict{At: r.at.UTC(), Evidence: verdict.Digest(r.Request), Form: "PKCS#10 request", Advisories: []verdict.Advisory{}, Checks: []verdict.Check{c}}
	v.Conclude()
	return v
}

func bigInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
