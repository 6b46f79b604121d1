package dcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// qeIdentity is an enclave identity of version 2: which quoting enclave is Intel's.
type qeIdentity struct {
	ID      string `json:"id"` // QE for SGX, TD_QE for TDX
	Version int    `json:"version"`
	window
	Evaluation *uint32    `json:"tcbEvaluationDataNumber"`
	MiscSelect hexN       `json:"miscselect"`
	MiscMask   hexN       `json:"miscselectMask"`
	Attributes hexN       `json:"attributes"`
	AttrMask   hexN       `json:"attributesMask"`
	MRSigner   hexN       `json:"mrsigner"`
	ProdID     *uint16    `json:"isvprodid"`
	Levels     []svnLevel `json:"tcbLevels"`
}

func parseQEIdentity(body []byte) (*qeIdentity, error) {
	q := &qeIdentity{}
	if err := decode(body, q); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	if err := q.check(); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	return q, nil
}

func (q *qeIdentity) check() error {
	switch {
	case q.ID != "QE" && q.ID != "TD_QE":
		return fmt.Errorf("found id %q, wanted QE or TD_QE", q.ID)
	case q.Version != 2:
		return fmt.Errorf("found version %d, wanted 2", q.Version)
	case q.Evaluation == nil || q.ProdID == nil:
		return errors.New("tcbEvaluationDataNumber or isvprodid is missing")
	}
	return errors.Join(q.window.check(), q.MiscSelect.want(4, "miscselect"), q.MiscMask.want(4, "miscselectMask"),
		q.Attributes.want(16, "attributes"), q.AttrMask.want(16, "attributesMask"), q.MRSigner.want(32, "mrsigner"), checkLevels(q.Levels))
}

// differs says what of the quoting enclave's report is not as the identity says;
// "" where all is. miscselect is written with the highest byte first (PCS, "Get
// Quoting Enclave Identity"), attributes as they stand in the report.
func (q *qeIdentity) differs(r *EnclaveReport) string {
	var out []string
	add := func(name string, found, wanted any) {
		out = append(out, fmt.Sprintf("%s %x where Intel's is %x", name, found, wanted))
	}
	if !bytes.Equal(r.MRSIGNER, q.MRSigner) {
		add("MRSIGNER", r.MRSIGNER, []byte(q.MRSigner))
	}
	if r.ISVProdID != *q.ProdID {
		add("ISVPRODID", r.ISVProdID, *q.ProdID)
	}
	misc, mask := binary.BigEndian.Uint32(q.MiscSelect), binary.BigEndian.Uint32(q.MiscMask)
	if r.MiscSelect&mask != misc&mask {
		add("MISCSELECT", r.MiscSelect, misc)
	}
	if !maskedEqual(r.Attributes, q.Attributes, q.AttrMask) {
		add("ATTRIBUTES", r.Attributes, []byte(q.Attributes))
	}
	return strings.Join(out, ", ")
}

func maskedEqual(a, b, mask []byte) bool {
	for i := range mask {
		if (a[i]^b[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}
