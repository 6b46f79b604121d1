package server

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

// Decisions are forgotten when they are as old as the configuration says and not before,
// and the log that is left verifies and says who took them.
func TestRetention(t *testing.T) {
	s := newSteward(t, func(o *Options) { o.Retention = 40 * 24 * time.Hour })
	w := newWorkload("")
	s.allow(w, s.platforms())
	for range 3 {
		if _, _, p := s.keep(w).enrol(); p != nil {
			t.Fatal(p)
		}
	}
	list := func() (out []DecisionView) {
		t.Helper()
		if code := s.admin("GET", "/v1/admin/decisions", nil, &out); code != 200 {
			t.Fatalf("status %d", code)
		}
		return out
	}
	old := list()
	s.step(39 * 24 * time.Hour)
	s.server.reread(t.Context())
	if err := s.server.forgetDecisions(t.Context()); err != nil || len(list()) != 3 {
		t.Fatalf("after 39 days: %v, %d decisions", err, len(list()))
	}
	s.step(2 * 24 * time.Hour)
	s.server.reread(t.Context())
	if err := s.server.forgetDecisions(t.Context()); err != nil || len(list()) != 0 {
		t.Fatalf("after 41 days: %v, %d decisions", err, len(list()))
	}
	var export []byte
	if code := s.admin("GET", "/v1/admin/audit/export", nil, &export); code != 200 {
		t.Fatalf("status %d", code)
	}
	rep, err := audit.Verify(bytes.NewReader(export), audit.Options{Keys: []crypto.PublicKey{AuditKey(s.auth)}})
	if err != nil || rep.Purged != 3 || rep.PurgedTo != old[0].Seq || rep.PurgedBy != "retention" || !strings.Contains(rep.PurgedText, "older than 40 days") {
		t.Errorf("found %+v, %v", rep, err)
	}
	for _, d := range old {
		if bytes.Contains(export, []byte(d.Request)) || bytes.Contains(export, []byte(d.Instance)) {
			t.Error("the log still says who asked")
		}
	}
}

func TestRetentionIsNotShort(t *testing.T) {
	s := newSteward(t)
	o := s.server.o
	o.Retention = 30 * 24 * time.Hour
	if _, err := New(t.Context(), o); err == nil {
		t.Error("certificates may be older than the decisions that are kept")
	}
}
