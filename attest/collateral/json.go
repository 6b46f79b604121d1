package collateral

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/donjon-tee/donjon/attest/strict"
)

const jsonFields = 256 // of the outer object

// Names of fields, in lower case and without - and _: what a library calls
// tcb_info_issuer_chain, another tcbInfoIssuerChain and Intel's servers
// TCB-Info-Issuer-Chain is one name here.
var (
	// certificates or lists: PEM (percent-encoded or not), or DER in hexadecimal or base64
	x509Names = names("tcbinfoissuerchain qeidentityissuerchain enclaveidentityissuerchain pckcrlissuerchain" +
		" sgxtcbinfoissuerchain sgxenclaveidentityissuerchain sgxpckcrlissuerchain sgxpckcertificateissuerchain" +
		" pckcertificatechain pckcertificateissuerchain pckcertchain pckcertificate pckcert pcksigningchain" +
		" issuerchain pckcrl rootcacrl crl vcek vlek ask asvk ark certchain certificates")
	// objects that hold such fields again
	nestNames = names("collateral collaterals")
	// documents; the signature is in NAMEsignature, or beside in signature
	tcbInfoNames    = names("tcbinfo sgxtcbinfo tdxtcbinfo")
	qeIdentityNames = names("enclaveidentity qeidentity tdqeidentity")
)

func names(s string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(s) {
		m[n] = true
	}
	return m
}

func normal(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// object adds what a JSON object holds. Fields of unknown names are passed over.
func (s *Set) object(name string, b []byte) (why string) {
	if err := checkJSON(b); err != nil {
		return "it is JSON, but " + err.Error()
	}
	fields, err := fieldsOf(b)
	if err != nil {
		return "it is JSON, but " + err.Error()
	}
	if t := fields["mediatype"]; string(t) == `"`+MediaType+`"` {
		bundle, err := ParseBundle(b)
		if err != nil {
			return strings.TrimPrefix(err.Error(), "collateral: ")
		}
		s.join(bundle.Set())
		return ""
	}
	if fields["fmspc"] != nil && fields["tcblevels"] != nil {
		return "it is a TCB info without its signature"
	}
	if fields["mrsigner"] != nil && fields["miscselect"] != nil {
		return "it is a QE identity without its signature"
	}
	found := &Set{}
	known := false
	for _, n := range sorted(fields) {
		v := fields[n]
		if !nestNames[n] || v[0] != '{' {
			continue
		}
		inner, err := fieldsOf(v)
		if err != nil {
			return "it is JSON, but " + err.Error()
		}
		for m := range inner {
			if fields[m] != nil {
				return fmt.Sprintf("it is JSON, but names %q twice", m)
			}
		}
		known = found.fields(name, inner) || known
	}
	if known = found.fields(name, fields) || known; !known {
		return "it is JSON with no field of collateral"
	}
	s.join(found)
	return ""
}

// fields adds what the known fields hold, in the order of their names so that the
// same bytes always give the same Set.
func (s *Set) fields(name string, fields map[string]json.RawMessage) (known bool) {
	for _, n := range sorted(fields) {
		v := fields[n]
		if bytes.Equal(v, []byte("null")) {
			continue
		}
		why := ""
		switch {
		case tcbInfoNames[n] || qeIdentityNames[n]:
			why = s.document(n, v, fields)
		case x509Names[n]:
			var text string
			if json.Unmarshal(v, &text) != nil {
				why = "it is no text"
				break
			}
			part := &Set{}
			if why = part.x509(name, []byte(text), 1); why == "" {
				for i := range part.Ignored {
					part.Ignored[i].Why = "its field " + n + ": " + part.Ignored[i].Why
				}
				s.join(part)
			}
		default:
			continue
		}
		known = true
		if why != "" {
			s.ignore(name, fmt.Sprintf("its field %s: %s", n, why))
		}
	}
	return known
}

// document adds a TCB info or QE identity: an object, or text that holds it; signed
// beside, or itself the whole of what Intel's server answers.
func (s *Set) document(n string, v json.RawMessage, fields map[string]json.RawMessage) (why string) {
	sig, body := fields[n+"signature"], v
	if sig == nil && v[0] == '{' {
		sig = fields["signature"]
	}
	if v[0] == '"' {
		var text string
		if err := json.Unmarshal(v, &text); err != nil {
			return "it is no text"
		}
		body = json.RawMessage(strings.TrimSpace(text))
		if err := checkJSON(body); err != nil {
			return "its text is JSON, but " + err.Error()
		}
	}
	inner, err := fieldsOf(body)
	if err != nil {
		return err.Error()
	}
	tcb := tcbInfoNames[n]
	for _, wrapper := range []string{"tcbinfo", "enclaveidentity"} {
		if w := inner[wrapper]; len(w) > 0 && w[0] == '{' && inner["signature"] != nil {
			if sig != nil && !bytes.Equal(sig, inner["signature"]) {
				return "it has two signatures"
			}
			body, sig = w, inner["signature"]
			if inner, err = fieldsOf(body); err != nil {
				return err.Error()
			}
			break
		}
	}
	switch isTCB, isQE := inner["fmspc"] != nil, inner["mrsigner"] != nil && inner["miscselect"] != nil; {
	case tcb && !isTCB:
		return "it is no TCB info: it has no fmspc"
	case !tcb && !isQE:
		return "it is no QE identity: it has no mrsigner and miscselect"
	}
	var text string
	if json.Unmarshal(sig, &text) != nil {
		return "there is no signature for it"
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 64 {
		return "its signature is not 64 bytes in hexadecimal"
	}
	d := Document{Body: bytes.Clone(body), Signature: raw}
	if tcb {
		s.TCBInfos = append(s.TCBInfos, d)
	} else {
		s.QEIdentities = append(s.QEIdentities, d)
	}
	return ""
}

// fieldsOf gives an object's fields under their normal names; the bytes of the
// values are the object's.
func fieldsOf(b []byte) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &m) != nil {
		return nil, errors.New("it is no JSON object")
	}
	if len(m) > jsonFields {
		return nil, fmt.Errorf("it has %d fields, wanted at most %d", len(m), jsonFields)
	}
	out := make(map[string]json.RawMessage, len(m))
	for k, v := range m {
		n := normal(k)
		if out[n] != nil {
			return nil, fmt.Errorf("it names %q twice", n)
		}
		out[n] = v
	}
	return out, nil
}

// checkJSON says whether b is one JSON value with one meaning, of bounded depth and
// size.
func checkJSON(b []byte) error {
	return strict.JSON(b, strict.Limits{Depth: 16, Values: 100_000})
}

func sorted(m map[string]json.RawMessage) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
