package server

import (
	"net/http"
	"net/netip"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/enrol"
)

// verify judges the platform of evidence for anyone (POST /v1/verify, the bytes as
// the body). It has a quota of its own, uses no policy, follows no address, and
// remembers nothing: neither collateral nor what was seen (THREATS T29).
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	if !s.admitClient(w, r, s.public) {
		return
	}
	if wait, ok := s.everyone.take(netip.Prefix{}); !ok {
		s.metrics.limited.Inc()
		s.tooMany(w, r, wait)
		return
	}
	b, ok := s.readBody(w, r, "", envelope.MaxSize)
	if !ok {
		return
	}
	leave, err := s.gate.enter(r.Context())
	if err != nil {
		s.answer(w, r, enrol.ProblemFor(enrol.CodeBusy, requestID(r), err.Error()))
		return
	}
	defer leave()
	writeJSON(w, http.StatusOK, s.Appraise(b, nil))
}

// Appraise judges the platform of evidence as the public form does; beside it is
// vendor data that came along, which is used for this one alone.
func (s *Server) Appraise(evidence []byte, beside *collateral.Set) *verdict.Verdict {
	c := beside
	if s.o.Collateral != nil {
		c = collateral.Merge(s.o.Collateral(), beside)
	}
	var v attest.Verifier // remembers nothing
	return v.Verify(evidence, attest.Options{At: s.o.Clock(), PlatformOnly: true, Collateral: c})
}
