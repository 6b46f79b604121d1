package server

import (
	"encoding/asn1"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strconv"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
)

const (
	typeRequest = "application/pkcs10"
	typeBundle  = "application/vnd.steward.pkcs10-bundle.v1"
)

// enarx answers requests in Enarx's form: one gets its PkiPath, a bundle its issuer's
// chain and the certificates.
func (s *Server) enarx(w http.ResponseWriter, r *http.Request) {
	if !s.admitClient(w, r, s.clients) {
		return
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != typeRequest && kind != typeBundle {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "found the content type "+strconv.Quote(r.Header.Get("Content-Type"))+", wanted "+typeRequest+" or "+typeBundle)
		return
	}
	body, ok := s.readBody(w, r, "", protocol.MaxRequest)
	if !ok {
		return
	}
	requests := [][]byte{body}
	if kind == typeBundle {
		if requests, err = sequence(body); err != nil {
			s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
			return
		}
	}
	leave, err := s.gate.enter(r.Context())
	if err != nil {
		s.answer(w, r, enrol.ProblemFor(enrol.CodeBusy, requestID(r), err.Error()))
		return
	}
	defer leave()
	out := s.enrol.Enarx(r.Context(), requests, enrol.Peer{Address: r.RemoteAddr, Request: requestID(r)})
	if out.Err != nil {
		note(r, slog.String("error", out.Err.Error()))
	}
	if out.Problem != nil {
		s.metrics.decisions.WithLabelValues(out.Problem.Code, "enarx").Inc()
		p := *out.Problem
		if p.Status == http.StatusForbidden { // as Enarx's Steward answers what fails
			p.Status = http.StatusBadRequest
		}
		s.answer(w, r, &p)
		return
	}
	s.metrics.decisions.WithLabelValues("admitted", "enarx").Add(float64(len(out.Certificates)))
	der, err := pkiAnswer(kind, s.o.Authority.EnarxCertificate().Raw, out.Certificates)
	if err != nil {
		s.problem(w, r, http.StatusInternalServerError, string(enrol.CodeInternal), "")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(der)))
	_, _ = w.Write(der)
}

// sequence takes SEQUENCE OF PKCS#10 apart.
func sequence(b []byte) ([][]byte, error) {
	var list []asn1.RawValue
	rest, err := asn1.Unmarshal(b, &list)
	if err != nil {
		return nil, errors.New("the bundle is no SEQUENCE OF requests")
	}
	if len(rest) > 0 || len(list) > enrol.MaxEnarx {
		return nil, errors.New("the bundle has too many requests, or bytes behind it")
	}
	var out [][]byte
	for _, x := range list {
		out = append(out, x.FullBytes)
	}
	return out, nil
}

func pkiAnswer(kind string, issuer []byte, leaves [][]byte) ([]byte, error) {
	raw := func(b []byte) asn1.RawValue { return asn1.RawValue{FullBytes: b} }
	if kind == typeRequest {
		return asn1.Marshal([]asn1.RawValue{raw(issuer), raw(leaves[0])})
	}
	out := struct{ Chain, Issued []asn1.RawValue }{Chain: []asn1.RawValue{raw(issuer)}}
	for _, l := range leaves {
		out.Issued = append(out.Issued, raw(l))
	}
	return asn1.Marshal(out)
}
