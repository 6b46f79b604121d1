package synthetic

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
)

// TCBInfo is Intel's TCB info, version 3, in its own spelling.
type TCBInfo struct {
	ID         string        `json:"id"`
	Version    int           `json:"version"`
	IssueDate  string        `json:"issueDate"`
	NextUpdate string        `json:"nextUpdate"`
	FMSPC      string        `json:"fmspc"`
	PCEID      string        `json:"pceId"`
	TCBType    int           `json:"tcbType"`
	Evaluation int           `json:"tcbEvaluationDataNumber"`
	Module     *TDXModule    `json:"tdxModule,omitempty"`
	Modules    []TDXModule   `json:"tdxModuleIdentities,omitempty"`
	Levels     []PlatformTCB `json:"tcbLevels"`
}

// TDXModule is a TDX module's signer, with an id and levels where it is an identity.
type TDXModule struct {
	ID         string     `json:"id,omitempty"`
	MRSigner   string     `json:"mrsigner"`
	Attributes string     `json:"attributes"`
	Mask       string     `json:"attributesMask"`
	Levels     []SVNLevel `json:"tcbLevels,omitempty"`
}

// SVNLevel is a level of a module or a quoting enclave.
type SVNLevel struct {
	TCB struct {
		SVN int `json:"isvsvn"`
	} `json:"tcb"`
	Date       string   `json:"tcbDate"`
	Status     string   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs,omitempty"`
}

// PlatformTCB is a level of a platform.
type PlatformTCB struct {
	TCB struct {
		SGX    []Component `json:"sgxtcbcomponents"`
		PCESVN int         `json:"pcesvn"`
		TDX    []Component `json:"tdxtcbcomponents,omitempty"`
	} `json:"tcb"`
	Date       string   `json:"tcbDate"`
	Status     string   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs,omitempty"`
}

// Component is one SVN of a level.
type Component struct {
	SVN      uint8  `json:"svn"`
	Category string `json:"category,omitempty"`
	Type     string `json:"type,omitempty"`
}

// QEIdentity is Intel's word on its quoting enclave, version 2.
type QEIdentity struct {
	ID         string     `json:"id"`
	Version    int        `json:"version"`
	IssueDate  string     `json:"issueDate"`
	NextUpdate string     `json:"nextUpdate"`
	Evaluation int        `json:"tcbEvaluationDataNumber"`
	MiscSelect string     `json:"miscselect"`
	MiscMask   string     `json:"miscselectMask"`
	Attributes string     `json:"attributes"`
	AttrMask   string     `json:"attributesMask"`
	MRSigner   string     `json:"mrsigner"`
	ProdID     int        `json:"isvprodid"`
	Levels     []SVNLevel `json:"tcbLevels"`
}

const zero48 = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

func svnLevel(svn int, date, status string, advisories ...string) SVNLevel {
	l := SVNLevel{Date: date, Status: status, Advisories: advisories}
	l.TCB.SVN = svn
	return l
}

func level(sgx, tdx [16]uint8, pcesvn int, date, status string, advisories ...string) PlatformTCB {
	l := PlatformTCB{Date: date, Status: status, Advisories: advisories}
	l.TCB.PCESVN = pcesvn
	for i := range sgx {
		l.TCB.SGX = append(l.TCB.SGX, Component{SVN: sgx[i]})
		l.TCB.TDX = append(l.TCB.TDX, Component{SVN: tdx[i]})
	}
	l.TCB.SGX[0].Type, l.TCB.SGX[0].Category = "Early Microcode Update", "BIOS"
	l.TCB.SGX[7].Type, l.TCB.SGX[7].Category = "SEAMLDR ACM", "OS/VMM"
	return l
}

// NewTCBInfo is the TCB info for the hierarchy's machine: up to date, out of date
// with PCESVN 11, revoked with the first component at 1.
func (i *Intel) NewTCBInfo(tdx bool) *TCBInfo {
	old := bestSGX()
	old[0] = 1
	t := &TCBInfo{
		ID: "SGX", Version: 3, IssueDate: i.date(-10), NextUpdate: i.date(20), Evaluation: 18,
		FMSPC: hex.EncodeToString(i.Machine.FMSPC[:]), PCEID: hex.EncodeToString(i.Machine.PCEID[:]),
		Levels: []PlatformTCB{
			level(bestSGX(), bestTDX(), 13, "2026-02-11T00:00:00Z", "UpToDate"),
			level(bestSGX(), bestTDX(), 11, "2024-03-13T00:00:00Z", "OutOfDate", "INTEL-SA-00837"),
			level(old, [16]uint8{}, 10, "2018-01-04T00:00:00Z", "Revoked", "INTEL-SA-00106"),
		},
	}
	if !tdx {
		for n := range t.Levels {
			t.Levels[n].TCB.TDX = nil
		}
		return t
	}
	signer := TDXModule{MRSigner: zero48, Attributes: "0000000000000000", Mask: "FFFFFFFFFFFFFFFF"}
	t.ID, t.Module = "TDX", &signer
	one, three := signer, signer
	one.ID, one.Levels = "TDX_01", []SVNLevel{
		svnLevel(7, "2026-02-11T00:00:00Z", "UpToDate"),
		svnLevel(5, "2024-03-13T00:00:00Z", "OutOfDate", "INTEL-SA-01036"),
		svnLevel(3, "2023-03-13T00:00:00Z", "Revoked"),
	}
	three.ID, three.Levels = "TDX_03", []SVNLevel{svnLevel(3, "2026-02-11T00:00:00Z", "UpToDate")}
	t.Modules = []TDXModule{three, one}
	return t
}

// NewQEIdentity is the identity of the quoting enclave in NewQuote's quotes: up to
// date with SVN 8, out of date with 6, revoked with 4.
func (i *Intel) NewQEIdentity(tdx bool) *QEIdentity {
	q := &QEIdentity{
		ID: "QE", Version: 2, IssueDate: i.date(-10), NextUpdate: i.date(20), Evaluation: 18,
		MiscSelect: "00000000", MiscMask: "FFFFFFFF", Attributes: "11000000000000000000000000000000",
		AttrMask: "FBFFFFFFFFFFFFFF0000000000000000", MRSigner: hex.EncodeToString(qeSigner()), ProdID: 1,
		Levels: []SVNLevel{
			svnLevel(8, "2024-03-13T00:00:00Z", "UpToDate"),
			svnLevel(6, "2021-11-10T00:00:00Z", "OutOfDate", "INTEL-SA-00615"),
			svnLevel(4, "2019-11-13T00:00:00Z", "Revoked"),
		},
	}
	if tdx {
		q.ID, q.ProdID = "TD_QE", 2
	}
	return q
}

// date is a number of days from the hierarchy's time.
func (i *Intel) date(days int) string {
	return i.At.AddDate(0, 0, days).UTC().Format(time.RFC3339)
}

// Sign makes a document of v, a TCBInfo or QEIdentity, with the TCB signing key.
func (i *Intel) Sign(v any) (collateral.Document, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return collateral.Document{}, fmt.Errorf("synthetic: document: %w", err)
	}
	return i.SignRaw(body, i.Signer.Key)
}

// SignRaw signs a document's body with any P-256 key.
func (i *Intel) SignRaw(body []byte, key *ecdsa.PrivateKey) (collateral.Document, error) {
	sig, err := i.sign64(key, body)
	return collateral.Document{Body: body, Signature: sig}, err
}

// sign64 is an ECDSA signature over the SHA-256 of msg, r and s of 32 bytes each.
func (i *Intel) sign64(key *ecdsa.PrivateKey, msg []byte) ([]byte, error) {
	h := sha256.Sum256(msg)
	r, s, err := ecdsa.Sign(i.rand, key, h[:])
	if err != nil {
		return nil, fmt.Errorf("synthetic: sign: %w", err)
	}
	n := (key.Curve.Params().BitSize + 7) / 8
	out := make([]byte, 2*n)
	r.FillBytes(out[:n])
	s.FillBytes(out[n:])
	return out, nil
}
