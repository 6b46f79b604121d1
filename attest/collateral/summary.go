package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Line describes one item for people and programs. It is what the item says of
// itself, unverified; texts may hold anything: whoever prints them escapes them.
type Line struct {
	Kind    Kind      `json:"kind"`
	Subject string    `json:"subject,omitempty"` // a certificate's
	Issuer  string    `json:"issuer,omitempty"`  // a certificate's or list's
	Number  string    `json:"number,omitempty"`  // a certificate's serial, a list's number
	Chip    string    `json:"chip,omitempty"`    // a VCEK's hardware id
	TEE     string    `json:"tee,omitempty"`     // a document's id: SGX, TDX, QE, TD_QE
	FMSPC   string    `json:"fmspc,omitempty"`
	Eval    uint32    `json:"tcb_evaluation_data_number,omitempty"`
	From    time.Time `json:"from"`           // notBefore, thisUpdate, issueDate
	Until   time.Time `json:"until,omitzero"` // notAfter, nextUpdate; zero: it names none
	Fetched time.Time `json:"fetched,omitzero"`
	Expired bool      `json:"expired"` // at the time asked for: ended, or without an end
	Future  bool      `json:"not_yet_valid"`
}

// Summary describes every item, in the bundle's order, as it is at the given time.
func (b *Bundle) Summary(at time.Time) []Line {
	out := make([]Line, 0, len(b.Items))
	for _, i := range b.Items {
		l := Line{Kind: i.Kind, Fetched: i.Fetched}
		switch i.Kind {
		case Certificate:
			c, err := x509.ParseCertificate(i.DER)
			if err != nil {
				continue
			}
			l.Subject, l.Issuer, l.Number, l.Chip = c.Subject.String(), c.Issuer.String(), c.SerialNumber.Text(16), chip(c)
			l.From, l.Until = c.NotBefore, c.NotAfter
		case List:
			r, err := x509.ParseRevocationList(i.DER)
			if err != nil {
				continue
			}
			l.Issuer, l.From, l.Until = r.Issuer.String(), r.ThisUpdate, r.NextUpdate
			if r.Number != nil {
				l.Number = r.Number.String()
			}
		default:
			h, err := i.Head()
			if err != nil {
				continue
			}
			l.TEE, l.FMSPC, l.Eval, l.From, l.Until = h.ID, h.FMSPC, h.Evaluation, h.IssueDate, h.NextUpdate
		}
		l.From, l.Until = l.From.UTC(), l.Until.UTC()
		l.Expired, l.Future = !at.Before(l.Until), at.Before(l.From)
		out = append(out, l)
	}
	return out
}

// chip is the hardware id of a VCEK in hexadecimal, "" for other certificates (AMD
// publication 57230, "VCEK Certificate", 1.3.6.1.4.1.3704.1.4: the bytes, bare or
// as an OCTET STRING).
func chip(c *x509.Certificate) string {
	for _, x := range c.Extensions {
		if !x.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}) {
			continue
		}
		switch n := len(x.Value); n {
		case 8, 64:
			return hex.EncodeToString(x.Value)
		case 10, 66:
			return hex.EncodeToString(x.Value[2:])
		}
	}
	return ""
}

// Head is the part of a TCB info or QE identity that says for what and when it is
// (Intel PCS API version 4, "TCB Info" and "Enclave Identity" models).
type Head struct {
	ID                    string // SGX, TDX; QE, TD_QE, QVE
	FMSPC                 string // 12 digits, lower case; "" in a QE identity
	Evaluation            uint32
	IssueDate, NextUpdate time.Time
}

// Head reads it. The rest of the document is not looked at.
func (d Document) Head() (Head, error) {
	var h Head
	var m map[string]json.RawMessage
	if err := json.Unmarshal(d.Body, &m); err != nil {
		return h, errors.New("collateral: a document is no JSON object")
	}
	text := func(name string, out *string, wanted bool) error {
		if m[name] == nil && !wanted {
			return nil
		}
		if err := json.Unmarshal(m[name], out); err != nil || len(*out) > 64 {
			return fmt.Errorf("collateral: a document's %s is missing or no short text", name)
		}
		return nil
	}
	var issued, next string
	for _, err := range []error{
		text("id", &h.ID, true), text("fmspc", &h.FMSPC, m["tcbLevels"] != nil && m["mrsigner"] == nil),
		text("issueDate", &issued, true), text("nextUpdate", &next, true),
	} {
		if err != nil {
			return h, err
		}
	}
	h.FMSPC = strings.ToLower(h.FMSPC)
	if b, err := hex.DecodeString(h.FMSPC); err != nil || h.FMSPC != "" && len(b) != 6 {
		return h, fmt.Errorf("collateral: a document's fmspc: found %q, wanted 12 hexadecimal digits", h.FMSPC)
	}
	var err error
	if h.IssueDate, err = time.Parse(time.RFC3339, issued); err != nil {
		return h, fmt.Errorf("collateral: a document's issueDate: %w", err)
	}
	if h.NextUpdate, err = time.Parse(time.RFC3339, next); err != nil {
		return h, fmt.Errorf("collateral: a document's nextUpdate: %w", err)
	}
	if n := m["tcbEvaluationDataNumber"]; bytes.Equal(n, []byte("null")) || json.Unmarshal(n, &h.Evaluation) != nil {
		return h, errors.New("collateral: a document's tcbEvaluationDataNumber is missing or no number")
	}
	return h, nil
}
