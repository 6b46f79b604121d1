// Package storetest is what every Store must do, run on SQLite and on PostgreSQL, and
// a PostgreSQL server for tests. It is for tests only.
package storetest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// T0 is when the tests' clock begins.
var T0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// By is who changes things in tests.
var By = store.Actor{Who: "tester", At: T0}

// Digest is some digest that n decides.
func Digest(kind string, n int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(kind), uint64(n)))
}

// Serial is a serial number that n decides.
func Serial(n int) []byte {
	d := Digest("serial", n)
	return d[:16]
}

// Admitted is a decision like those of an enrolment: a challenge, a certificate, and
// a verdict with as many checks as SNP evidence has.
func Admitted(n int, at time.Time) store.Decision {
	workload := fmt.Sprintf("sha256:%x", Digest("workload", n%7))
	checks := make([]audit.Check, 0, 30)
	for i := range 30 {
		checks = append(checks, audit.Check{
			Code: fmt.Sprintf("snp-check-number-%d", i), Status: verdict.Passed,
			Found: fmt.Sprintf("%x", Digest("found", n*100+i)), Wanted: "as the policy says",
		})
	}
	detail := []byte("{\"checks\":[")
	for _, c := range checks {
		detail = append(detail, fmt.Sprintf(`{"code":%q,"status":%q,"found":%q,"wanted":%q,"source":"SEV-SNP ABI 1.58, table 23","hint":""},`, c.Code, c.Status, c.Found, c.Wanted)...)
	}
	detail = append(detail, "{}]}"...)
	return store.Decision{
		At: at, Epoch: 1,
		Once:        []store.Once{{Kind: store.OnceChallenge, Digest: Digest("challenge", n), Expires: at.Add(2 * time.Minute)}},
		Certificate: &store.NewCertificate{Serial: Serial(n), CA: "workloads-1", NotBefore: at, NotAfter: at.Add(time.Hour)},
		Record: audit.Record{
			Kind: audit.Decision, Who: "192.0.2.1", Request: fmt.Sprintf("r%d", n), Workload: workload,
			Instance: fmt.Sprintf("%x", Digest("instance", n))[:32], TEE: "snp",
			Challenge: Digest("challenge", n), Evidence: Digest("evidence", n), Claims: Digest("claims", n),
			PolicyVersion: 1, Policy: Digest("policy", n%7), Outcome: verdict.Admitted, Checks: checks,
			Detail: sha256.Sum256(detail), Secrets: []string{"db-password@1"},
		},
		Detail: detail, TCBStatus: "UpToDate", Platform: fmt.Sprintf("%x", Digest("chip", n%20)),
	}
}

// Refused is a refusal that grants nothing.
func Refused(n int, at time.Time) store.Decision {
	d := Admitted(n, at)
	d.Once, d.Certificate, d.Record.Secrets = nil, nil, nil
	d.Record.Outcome, d.Record.Code = verdict.Refused, "refused"
	return d
}
