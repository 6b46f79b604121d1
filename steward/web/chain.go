package web

import (
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// The chain of trust, from the vendor's root to what is asked for. Each check of a
// verdict belongs to one link.
type link struct {
	ID, Title, Means string
	Facts            []fact
	Checks           []verdict.Check
}

type fact struct{ Name, Value string }

// The links, in order, with the codes of their checks. What is not listed is shown
// with the last.
var chainLinks = []struct {
	id, title, means string
	codes            []verdict.Code
}{
	{"root", "Vendor root", "whose word all else rests on", []verdict.Code{
		verdict.TrustedRoot, verdict.SimulatedRoot, verdict.RootCRL, verdict.CollateralRollback}},
	{"key", "Endorsed key", "the vendor says this key belongs to a genuine chip", []verdict.Code{
		verdict.EndorsementKey, verdict.Chain, verdict.CertificateValidity, verdict.IntermediateCRL, verdict.KeyToReport,
		verdict.AttestationKey, verdict.QEReport, verdict.QEIdentity, verdict.QEIdentitySignature, verdict.QEIdentityCurrent,
		verdict.AKEndorsed, verdict.AKRestricted, verdict.RuntimeData}},
	{"platform", "Platform", "the machine's firmware and microcode, and what is known against them", []verdict.Code{
		verdict.TEEAdmitted, verdict.ProductAllowed, verdict.TCBInfoSignature, verdict.TCBInfoCurrent, verdict.TCBInfoMatch,
		verdict.TCBStatus, verdict.EvaluationNumber, verdict.TCBFloor, verdict.TCBOrder, verdict.TDXModule, verdict.SEAMModule,
		verdict.Firmware, verdict.PlatformInfo, verdict.Mitigations, verdict.Advisories, verdict.Platforms}},
	{"report", "Evidence", "the statement that the chip signed", []verdict.Code{
		verdict.Form, verdict.Signature, verdict.PCRDigest, verdict.EventLog, verdict.ReportData}},
	{"runtime", "Runtime", "the program that was measured at launch, and who can look inside", []verdict.Code{
		verdict.RuntimePinned, verdict.Debug, verdict.Migration, verdict.GuestPolicy, verdict.VMPL, verdict.IDBlock,
		verdict.Attributes, verdict.ServiceTD, verdict.PCRs}},
	{"workload", "Workload", "what the runtime was told to run, and nothing else", []verdict.Code{
		verdict.HostData, verdict.WorkloadBinding, verdict.Workload, verdict.WorkloadSignature, verdict.WorkloadVersion}},
	{"request", "This request", "made now, for this Steward, with this key", []verdict.Code{
		verdict.KeyBinding, verdict.SelfSignature, verdict.Nonce, verdict.Purpose, verdict.ChannelBinding, verdict.Protocol, verdict.PeerRole, verdict.TimeSource, verdict.Age}},
}

// chain sorts a verdict's checks into links. Links without a check and without a fact
// are left out.
func chain(checks []verdict.Check, c *claims.Claims) []link {
	where := map[verdict.Code]int{}
	out := make([]link, len(chainLinks))
	for i, l := range chainLinks {
		out[i] = link{ID: l.id, Title: l.title, Means: l.means}
		for _, code := range l.codes {
			where[code] = i
		}
	}
	for _, k := range checks {
		i, known := where[k.Code]
		if !known {
			i = len(out) - 1
		}
		out[i].Checks = append(out[i].Checks, k)
	}
	if c != nil {
		for i, f := range [][]fact{rootFacts(c), keyFacts(c), platformFacts(c), reportFacts(c), runtimeFacts(c), workloadFacts(c), requestFacts(c)} {
			out[i].Facts = f
		}
	}
	kept := out[:0]
	for _, l := range out {
		if len(l.Checks) > 0 || len(l.Facts) > 0 {
			kept = append(kept, l)
		}
	}
	return kept
}

// Status is what the link's checks come to: failed, not-made (something demanded),
// part (some passed, others were waived or nobody demands them), unseen (none was
// made), none (there is none) or passed, which is said only where each check passed.
func (l link) Status() string {
	passed, missing, left := 0, 0, 0
	for _, c := range l.Checks {
		switch {
		case c.Status == verdict.Passed:
			passed++
		case c.Status == verdict.NotMade && (c.Informal || c.Waived != ""):
			left++
		case c.Status == verdict.NotMade:
			missing++
		default: // failed, and what is no status
			return "failed"
		}
	}
	switch {
	case missing > 0:
		return "not-made"
	case passed > 0 && left > 0:
		return "part"
	case left > 0:
		return "unseen"
	case passed > 0:
		return "passed"
	}
	return "none"
}

// Word and Sign say a link's status, so that no colour need be seen.
func (l link) Word() string {
	return map[string]string{"passed": "holds", "failed": "fails", "not-made": "cannot tell", "part": "holds as far as it was looked at",
		"unseen": "not looked at", "none": "nothing to check"}[l.Status()]
}

// Sign is the status as a sign.
func (l link) Sign() string {
	switch l.Status() {
	case "passed":
		return "✔"
	case "failed":
		return "✗"
	}
	return "–"
}

func list(pairs ...string) []fact {
	var out []fact
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, fact{pairs[i], pairs[i+1]})
		}
	}
	return out
}

func rootFacts(c *claims.Claims) []fact {
	return list("name", c.Root.Name, "SHA-256", c.Root.SHA256.String())
}

func keyFacts(c *claims.Claims) []fact {
	var out []fact
	if s := c.SNP; s != nil {
		out = append(out, list("kind", strings.ToUpper(s.SigningKey), "chip id", s.ChipID.String(), "provider", s.CSP)...)
	}
	if i := c.Intel; i != nil {
		out = append(out, list("kind", "PCK", "FMSPC", i.FMSPC.String(), "PCE id", i.PCEID.String(), "PPID", i.PPID.String(),
			"quoting enclave", i.QEStatus)...)
	}
	if n := c.Nitro; n != nil {
		out = append(out, list("module", n.ModuleID)...)
	}
	if t := c.TPM; t != nil {
		out = append(out, list("attestation key", t.AKSHA256.String(), "endorsed by", t.Endorsed)...)
	}
	return out
}

func tcb(t claims.SNPTCB) string {
	s := fmt.Sprintf("boot loader %d, TEE %d, SNP %d, microcode %d", t.BootLoader, t.TEE, t.SNP, t.Microcode)
	if t.FMC != nil {
		s = fmt.Sprintf("FMC %d, ", *t.FMC) + s
	}
	return s
}

func platformFacts(c *claims.Claims) []fact {
	out := list("TEE", teeName(c.TEE))
	if s := c.SNP; s != nil {
		out = append(out, list("product", s.Product, "reported TCB", tcb(s.Reported), "committed TCB", tcb(s.Committed), "firmware", s.CurrentVersion)...)
	}
	if i := c.Intel; i != nil {
		out = append(out, list("TCB status", i.Status, "Intel lists", strings.Join(i.AdvisoryIDs, ", "), "PCE SVN", fmt.Sprint(i.PCESVN))...)
		if !i.TCBDate.IsZero() {
			out = append(out, list("TCB date", i.TCBDate.UTC().Format("2006-01-02"))...)
		}
	}
	return out
}

func reportFacts(c *claims.Claims) []fact {
	var out []fact
	switch {
	case c.SNP != nil:
		out = list("form", fmt.Sprintf("SEV-SNP report, version %d", c.SNP.ReportVersion))
	case c.TDX != nil:
		out = list("form", fmt.Sprintf("TDX quote, version %d", c.TDX.QuoteVersion))
	case c.SGX != nil:
		out = list("form", fmt.Sprintf("SGX quote, version %d", c.SGX.QuoteVersion))
	case c.Nitro != nil:
		out = list("form", "Nitro document of "+c.Nitro.Timestamp.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if c.TPM != nil {
		out = append(out, list("TPM quote", fmt.Sprintf("%s bank, %d registers", c.TPM.Bank, len(c.TPM.PCRs)))...)
	}
	return append(out, list("report data", c.ReportData.String())...)
}

func runtimeFacts(c *claims.Claims) []fact {
	var out []fact
	if s := c.SNP; s != nil {
		out = append(out, list("launch digest", s.LaunchDigest.String(), "guest policy", fmt.Sprintf("0x%x", s.GuestPolicy), "VMPL", fmt.Sprint(s.VMPL))...)
	}
	if t := c.TDX; t != nil {
		out = append(out, list("MRTD", t.MRTD.String(), "attributes", t.TDAttributes.String())...)
		for i, r := range t.RTMR {
			out = append(out, list(fmt.Sprintf("RTMR%d", i), r.String())...)
		}
	}
	if s := c.SGX; s != nil {
		out = append(out, list("MRENCLAVE", s.MRENCLAVE.String(), "MRSIGNER", s.MRSIGNER.String(), "product and SVN", fmt.Sprintf("%d, %d", s.ISVProdID, s.ISVSVN))...)
	}
	if n := c.Nitro; n != nil {
		for i := range 3 {
			out = append(out, list(fmt.Sprintf("PCR%d", i), n.PCRs[i].String())...)
		}
	}
	return out
}

func workloadFacts(c *claims.Claims) []fact {
	out := list("host data", c.HostData.String())
	if k := c.Keep; k != nil {
		out = append(out, list("workload digest", k.WorkloadDigest.String(), "instance", k.Instance.String())...)
	}
	return out
}

func requestFacts(c *claims.Claims) []fact {
	out := list("key, SHA-256", c.Key.String())
	if k := c.Keep; k != nil {
		out = append(out, list("purpose", k.Purpose, "challenge", k.Nonce.String())...)
	}
	return out
}

// judged is a verdict as the pages show it.
type judged struct {
	*verdict.Verdict
	Links []link
	// Public says that software was not looked at.
	Public bool
}

func newJudged(v *verdict.Verdict, public bool) *judged {
	return &judged{v, chain(v.Checks, v.Claims), public}
}

// Means explains a check's code.
func (*judged) Means(c verdict.Code) string {
	i, _ := verdict.Lookup(c)
	return i.Means
}

// ByState gives the advisories in a state.
func (j *judged) ByState(state string) []verdict.Advisory {
	var out []verdict.Advisory
	for _, a := range j.Advisories {
		if a.State == state {
			out = append(out, a)
		}
	}
	return out
}
