package enrol

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/workload/signature"
)

// Signed is the table [steward.signed]: the policy is that of every version of a
// workload that a signer signs under a name, from a version on (THREATS T12).
type Signed struct {
	Signer     string `toml:"signer"`      // key id: SHA-256 of the public key, hexadecimal
	Name       string `toml:"name"`        // the workload's, in the signature
	MinVersion uint64 `toml:"min_version"` // there is no default
}

func (s *Signed) check() error {
	if _, err := signature.ParseKeyID(s.Signer); err != nil {
		return fmt.Errorf("policy: [steward.signed] signer: %w", err)
	}
	if err := signature.CheckName(s.Name); err != nil {
		return fmt.Errorf("policy: [steward.signed] name: %w", err)
	}
	if err := signature.CheckVersion(s.MinVersion); err != nil {
		return fmt.Errorf("policy: [steward.signed] min_version: %w", err)
	}
	return nil
}

// What policies and secrets are for begins so: a workload digest, or what a signer
// signs under a name.
const (
	digestPrefix = "sha256:"
	SignerPrefix = "signer:"
)

// SignerSubject is what policies and secrets are for that all versions of a signed
// workload have in common.
func SignerSubject(signer signature.KeyID, name string) string {
	return SignerPrefix + signer.String() + "/" + name
}

// ParseSubject reads sha256: and a workload digest, or signer:, a key id, / and a name.
// A digest alone is read too.
func ParseSubject(s string) (string, error) {
	if rest, ok := strings.CutPrefix(s, SignerPrefix); ok {
		id, name, _ := strings.Cut(rest, "/")
		signer, err := signature.ParseKeyID(id)
		if err == nil {
			err = signature.CheckName(name)
		}
		if err != nil {
			return "", err
		}
		return SignerSubject(signer, name), nil
	}
	d, err := hex.DecodeString(strings.TrimPrefix(s, digestPrefix))
	if err != nil || len(d) != 32 {
		return "", fmt.Errorf("found the workload %.200q, wanted sha256: and 64 hexadecimal digits, or signer:KEY/NAME", s)
	}
	return digestPrefix + hex.EncodeToString(d), nil
}

// IsSigner says whether a subject is a signer's.
func IsSigner(subject string) bool { return strings.HasPrefix(subject, SignerPrefix) }

// SplitSigner is the key id and the name of a signer's subject.
func SplitSigner(subject string) (signer, name string, ok bool) {
	rest, ok := strings.CutPrefix(subject, SignerPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// CheckSubject refuses a policy that is another subject's.
func (d *Document) CheckSubject(subject string) error {
	s := d.Grant.Signed
	switch {
	case !IsSigner(subject) && s != nil:
		return fmt.Errorf("policy: found [steward.signed] in the policy of %s, wanted it in a signer's alone", subject)
	case IsSigner(subject) && s == nil:
		return fmt.Errorf("policy: found no [steward.signed] in the policy of %s", subject)
	case s != nil && SignerPrefix+s.Signer+"/"+s.Name != subject:
		return fmt.Errorf("policy: [steward.signed]: found %s by %s in the policy of %s", s.Name, s.Signer, subject)
	}
	return nil
}

// Describe says in words what the policy demands: a line a fact.
func (d *Document) Describe() []string {
	out := d.Policy.Describe()
	if s := d.Grant.Signed; s != nil {
		out = append(out, fmt.Sprintf("the workload is signed as %s by %s, version %d or higher", s.Name, s.Signer, s.MinVersion))
	}
	return append(out, d.Grant.describe()...)
}

// describe says what is granted, a line each.
func (g *Grant) describe() []string {
	out := []string{"granted: a certificate for " + g.validity().String()}
	for _, n := range g.DNS {
		out = append(out, "granted: the DNS name "+n)
	}
	if g.MaxInstances > 0 {
		out = append(out, fmt.Sprintf("granted: to %d Keeps at once", g.MaxInstances))
	} else {
		out = append(out, "granted: to any number of Keeps at once")
	}
	if g.Audience != "" {
		out = append(out, "granted: a token for "+g.Audience)
	}
	if len(g.Platforms) == 0 {
		out = append(out, "no secret is released: no platforms are named")
	}
	for _, p := range g.Platforms {
		if p == AnyPlatform {
			p = "any machine"
		}
		out = append(out, "secrets are released on "+p)
	}
	return out
}

// rests is whose policy the request is judged by.
func (r *request) rests() string {
	if r.signed == nil {
		return r.subject
	}
	return SignerSubject(r.signed.Signer.ID(), r.signed.Name)
}

// pointer is rests as the command line takes it.
func (r *request) pointer() string {
	if r.signed == nil {
		return "--workload " + r.subject
	}
	return "--signer " + r.signed.Signer.ID().String() + " --name " + r.signed.Name
}

const sourceSigned = "policy: [steward.signed]"

// signedPolicy finds the policy of a workload that has none of its own: that of the
// first signature which is good and may be taken. A code says that there is none: of
// what was found, the reason that came furthest. Signatures are the host's to choose
// and to leave out: each stands alone, and none can take away what another gives.
func (s *Service) signedPolicy(ctx context.Context, r *request) (*store.Policy, Code, error) {
	r.verdict = unknownWorkload(r)
	reason, rank := CodeWorkloadUnknown, map[Code]int{CodeSignatureInvalid: 1, CodeWorkloadUnknown: 2, CodeVersionLow: 3}
	furthest := 0
	for _, b := range r.Signatures {
		f, err := s.weigh(ctx, r, b)
		if err != nil {
			return nil, "", err
		}
		if f.code == "" {
			r.signed = f.envelope
			return f.policy, "", nil
		}
		if rank[f.code] > furthest {
			reason, furthest, r.verdict, r.signed = f.code, rank[f.code], unjudged(r, f.check), f.envelope
		}
	}
	return nil, reason, nil
}

// finding is what one signature comes to.
type finding struct {
	code     Code // "": it is good
	check    verdict.Check
	envelope *signature.Envelope // verified; nil: it was not
	policy   *store.Policy
}

func (s *Service) weigh(ctx context.Context, r *request, b []byte) (finding, error) {
	e, c := openSignature(b)
	if e == nil {
		return finding{code: CodeSignatureInvalid, check: c}, nil
	}
	if e.Workload != r.digest {
		return finding{code: CodeSignatureInvalid, check: verdict.Fail(verdict.WorkloadSignature, "a signature over "+e.Workload.String(), r.subject).From(sourceSigned).
			Advise("the workload was changed since it was signed, or the signature is another's: donjon sign signs what it is now")}, nil
	}
	f := finding{envelope: e}
	var err error
	f.policy, err = s.o.Store.Policy(ctx, SignerSubject(e.Signer.ID(), e.Name))
	if errors.Is(err, store.ErrNotFound) || err == nil && string(f.policy.Text) == RemovedPolicy {
		f.code, f.check = CodeWorkloadUnknown, verdict.Fail(verdict.Workload, r.subject+", "+describe(e), "a workload or a signer that this Steward allows").
			From("the Steward's policies").Advise("donjon steward workload allow --signer KEY --name "+e.Name+" records the signer")
		return f, nil
	}
	if err != nil {
		return f, err
	}
	doc, err := s.document(f.policy)
	if err == nil {
		err = doc.CheckSubject(f.policy.Workload)
	}
	if err != nil {
		return f, fmt.Errorf("the stored policy %s version %d: %w", f.policy.Workload, f.policy.Version, err)
	}
	highest, err := s.o.Store.SignedVersion(ctx, e.Signer.ID().String(), e.Name)
	if err != nil {
		return f, err
	}
	if c := lowVersion(e, doc.Grant.Signed, highest); c != nil {
		f.code, f.check = CodeVersionLow, *c
	}
	return f, nil
}

// openSignature reads and verifies a signature. Where it does not hold, the check says
// why, and there is no envelope.
func openSignature(b []byte) (*signature.Envelope, verdict.Check) {
	e, err := signature.Parse(b)
	if err != nil {
		return nil, verdict.Fail(verdict.WorkloadSignature, err.Error(), "a signature in its form").From("docs/signing.md")
	}
	if e.Verify() != nil {
		return nil, verdict.Fail(verdict.WorkloadSignature, "a signature that the key "+e.Signer.ID().String()+", which it names, did not make", "one that it made").From("docs/signing.md")
	}
	return e, verdict.Check{}
}

func versionOf(e *signature.Envelope) string {
	return fmt.Sprintf("version %d of %s", e.Version, e.Name)
}

func describe(e *signature.Envelope) string {
	return fmt.Sprintf("signed as %s version %d by %s", e.Name, e.Version, e.Signer.ID())
}

// lowVersion is the check that fails where a version is under the policy's or the
// highest that was admitted; nil: it is not.
func lowVersion(e *signature.Envelope, s *Signed, highest uint64) *verdict.Check {
	found := versionOf(e)
	switch {
	case e.Version < s.MinVersion:
		c := verdict.Fail(verdict.WorkloadVersion, found, fmt.Sprintf("version %d at least, the policy's min_version", s.MinVersion)).From(sourceSigned)
		return &c
	case e.Version < highest:
		c := verdict.Fail(verdict.WorkloadVersion, found, fmt.Sprintf("version %d at least, the highest that was admitted", highest)).From("this Steward's decisions").
			Advise("to go back, sign what ran before again, under a higher version")
		return &c
	}
	return nil
}

// signedChecks are the checks that a signature has passed.
func signedChecks(e *signature.Envelope) []verdict.Check {
	return []verdict.Check{
		verdict.Pass(verdict.WorkloadSignature, describe(e)).From(sourceSigned),
		verdict.Pass(verdict.WorkloadVersion, versionOf(e)).From(sourceSigned),
	}
}
