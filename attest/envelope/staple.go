package envelope

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/evidence"
)

// StapledType is the type of a collection that Staple makes of bare evidence.
const StapledType = "tag:donjon-tee.github.io,2026:stapled/1"

// Media types of bare evidence in such a collection. No registry has names for a
// quote and a Nitro document in CMW yet.
const (
	quoteType = "application/vnd.donjon.dcap-quote"
	nitroType = "application/vnd.donjon.nitro-document"
)

type wireRecord struct {
	_    struct{} `cbor:",toarray"`
	Type string
	Data []byte
	Ind  uint64
}

// Staple gives evidence together with a bundle of collateral (attest/collateral), as a
// CMW collection: Donjon's own collection gets the record collateral, a bare report,
// quote or document a collection around it. What was stapled before is replaced. A
// certificate or request cannot hold more than was signed, and a TPM quote has no
// collateral: for them the error says so.
func Staple(b, bundle []byte) ([]byte, error) {
	e, err := Open(b)
	if err != nil {
		return nil, err
	}
	if e.Binds.SPKI != nil || e.Kind == TPM {
		return nil, fmt.Errorf("evidence: %s: nothing can be stapled to this form; carry the collateral beside it", e.Form)
	}
	var out []byte
	if own, err := evidence.Parse(b); err == nil {
		own.Collateral = bundle
		out, err = own.Encode()
		if err != nil {
			return nil, err
		}
	} else {
		if e.Binds.Claims != nil {
			return nil, fmt.Errorf("evidence: %s: nothing can be stapled to this form; carry the collateral beside it", e.Form)
		}
		kind := map[Kind]string{SNP: evidence.ReportType, DCAP: quoteType, Nitro: nitroType}[e.Kind]
		m, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			return nil, err
		}
		records := map[string]any{"__cmwc_t": StapledType, "evidence": wireRecord{Type: kind, Data: e.Evidence, Ind: indEvidence},
			"collateral": wireRecord{Type: evidence.CollateralType, Data: bundle, Ind: indEndorsements}}
		if out, err = m.Marshal(records); err != nil {
			return nil, err
		}
	}
	again, err := Open(out)
	if err != nil {
		return nil, err
	}
	if string(again.Evidence) != string(e.Evidence) || again.Stapled == nil {
		return nil, errors.New("evidence: what was stapled does not read back")
	}
	return out, nil
}
