package web

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/linediff"
	"github.com/donjon-tee/donjon/steward/store"
)

type workloadRow struct {
	store.Workload
	Policy    uint64 // version; 0: none
	Simulated bool   // the policy allows simulated evidence
	Doubt     string // about the policy
}

type workloadsView struct {
	Rows    []workloadRow
	Signers []store.Policy
	// MoreSigners says that there are some that no page lists.
	MoreSigners bool
	More        string // query of the next page
	Later       bool   // this is not the first page
}

func (s *site) workloads(w http.ResponseWriter, r *http.Request) {
	after := r.URL.Query().Get("after")
	if after != "" && !isDigest(after) {
		s.problem(w, r, http.StatusBadRequest, "No such page", "after: wanted a workload digest.")
		return
	}
	ctx := r.Context()
	list, err := s.Store.Workloads(ctx, after, perPage+1)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := workloadsView{Later: after != ""}
	if len(list) > perPage {
		list = list[:perPage]
		v.More = "?" + url.Values{"after": {list[perPage-1].Digest}}.Encode()
	}
	for _, one := range list {
		row := workloadRow{Workload: one}
		p, err := s.newestPolicy(ctx, one.Digest)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if p != nil {
			row.Policy, row.Simulated, row.Doubt = p.Version, allowsSimulated(p.Text), p.Doubt
		}
		v.Rows = append(v.Rows, row)
	}
	if !v.Later {
		// signer:<key id>/<name> sorts behind every sha256:<hex>.
		if v.Signers, err = s.Store.Subjects(ctx, enrol.SignerPrefix, perPage+1); err != nil {
			s.fail(w, r, err)
			return
		}
		if v.MoreSigners = len(v.Signers) > perPage; v.MoreSigners {
			v.Signers = v.Signers[:perPage]
		}
	}
	s.show(w, r, http.StatusOK, "workloads", page{Title: "Workloads", At: "workloads", Body: v})
}

// newestPolicy gives nil where there is none. It is for showing: with Doubt where
// nothing is judged by it.
func (s *site) newestPolicy(ctx context.Context, subject string) (*store.Policy, error) {
	list, err := s.Store.Policies(ctx, subject, 1)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// allowsSimulated says so too where the policy cannot be read: too loud rather than
// too quiet.
func allowsSimulated(text []byte) bool {
	d, err := enrol.ParseDocument(text)
	return err != nil || d.Policy.AllowSimulated
}

type secretRow struct {
	store.Secret
	Releasable bool     // under the newest policy
	From       uint64   // the version it was set under; 0: that one is the newest, or not among those shown
	Changed    []string // what changed since, "+ " and "- " before the line
}

// signedView is what a signer's policy says, and what came of it.
type signedView struct {
	Signer, Name string
	Least        uint64 // version that is admitted; 0: none is
	Highest      uint64 // that was admitted; 0: none was
}

type workloadView struct {
	Subject   string
	Signer    bool
	Signed    *signedView     // nil for a digest
	Workload  *store.Workload // nil for a signer, or where only a policy is known
	Policy    *store.Policy   // that is shown; nil: none
	Newest    uint64
	Simulated bool
	Versions  []store.Policy
	Secrets   []secretRow
	Leases    []store.Lease
	Decisions []store.DecisionRow
	All       string // query of all its decisions
	Now       time.Time
}

func isSubject(s string) bool { return subject().MatchString(s) }

var subject = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(sha256:[0-9a-f]{64}|signer:.{1,512})$`)
})

func (s *site) workload(w http.ResponseWriter, r *http.Request) {
	subject := r.PathValue("subject")
	if !isSubject(subject) {
		s.fail(w, r, store.ErrNotFound)
		return
	}
	v, err := s.workloadView(r.Context(), subject, r.URL.Query().Get("version"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	title := "Workload"
	if v.Signer {
		title = "Signer"
	}
	s.show(w, r, http.StatusOK, "workload", page{Title: title, At: "workloads", Body: v})
}

func (s *site) workloadView(ctx context.Context, subject, version string) (*workloadView, error) {
	v := &workloadView{Subject: subject, Signer: !isDigest(subject), Now: s.Now().UTC()}
	var err error
	if !v.Signer {
		if v.Workload, err = s.Store.Workload(ctx, subject); err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	newest, err := s.newestPolicy(ctx, subject)
	if err != nil {
		return nil, err
	}
	if v.Workload == nil && newest == nil {
		return nil, store.ErrNotFound
	}
	if newest != nil {
		v.Policy, v.Newest = newest, newest.Version
		if v.Versions, err = s.Store.Policies(ctx, subject, perPage); err != nil {
			return nil, err
		}
		if version != "" {
			n, err := strconv.ParseUint(version, 10, 63)
			if err != nil {
				return nil, store.ErrNotFound
			}
			if v.Policy, err = s.Store.PolicyVersion(ctx, subject, n); err != nil {
				return nil, err
			}
		}
		v.Simulated = allowsSimulated(v.Policy.Text)
	}
	if v.Secrets, err = s.secretsOf(ctx, subject, newest, v.Versions); err != nil {
		return nil, err
	}
	if v.Leases, err = s.Store.Leases(ctx, subject, v.Now); err != nil {
		return nil, err
	}
	if v.Signer {
		v.Signed, err = s.signed(ctx, subject, v.Policy)
		return v, err
	}
	v.All = filter{Workload: subject}.query(0)
	v.Decisions, err = s.Store.Decisions(ctx, store.DecisionFilter{Workload: subject, Limit: 10})
	return v, err
}

func (s *site) signed(ctx context.Context, subject string, p *store.Policy) (*signedView, error) {
	signer, name, ok := enrol.SplitSigner(subject)
	if !ok {
		return &signedView{}, nil
	}
	v := &signedView{Signer: signer, Name: name}
	if p != nil {
		if d, err := enrol.ParseDocument(p.Text); err == nil && d.Grant.Signed != nil {
			v.Least = d.Grant.Signed.MinVersion
		}
	}
	if signer == "" || name == "" {
		return v, nil
	}
	var err error
	v.Highest, err = s.Store.SignedVersion(ctx, signer, name)
	return v, err
}

// secretsOf gives the names of a workload's secrets. The list comes without
// ciphertext: what a page does not have it cannot show.
//
// versions are those that what changed is looked for in.
func (s *site) secretsOf(ctx context.Context, subject string, p *store.Policy, versions []store.Policy) ([]secretRow, error) {
	list, err := s.Store.AllSecrets(ctx, store.SecretKey{Workload: subject}, perPage*2)
	if err != nil {
		return nil, err
	}
	var out []secretRow
	changed := map[uint64][]string{} // by version
	for _, one := range list {
		if one.Workload != subject {
			break
		}
		one.Sealed = nil
		row := secretRow{Secret: one, Releasable: p != nil && p.Doubt == "" && one.Releasable(p.Digest, s.Confirmed)}
		if at := slices.IndexFunc(versions, func(v store.Policy) bool { return v.Digest == one.Policy && v.Doubt == "" }); at >= 0 && p != nil && p.Doubt == "" && !row.Releasable {
			row.From = versions[at].Version
			if changed[row.From] == nil {
				for _, l := range linediff.Texts(string(versions[at].Text), string(p.Text)) {
					if l[0] != ' ' {
						changed[row.From] = append(changed[row.From], l)
					}
				}
			}
			row.Changed = changed[row.From]
		}
		out = append(out, row)
	}
	return out, nil
}

type certificatesView struct {
	Rows   []store.CertificateRow
	Within string // hours, as asked for; "": all
	More   string
	Later  bool
	Now    time.Time
}

// certificates lists what is good now, the next to expire first, without those that
// were renewed.
func (s *site) certificates(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	now := s.Now().UTC()
	f := store.CertificateFilter{From: now, Newest: true, Limit: perPage + 1}
	v := certificatesView{Now: now, Within: q.Get("within")}
	bad := func() {
		s.problem(w, r, http.StatusBadRequest, "No such page", "within: wanted hours, 1 to 8760; from and after as a page's link has them.")
	}
	if v.Within != "" {
		n, err := strconv.Atoi(v.Within)
		if err != nil || n < 1 || n > 8760 {
			bad()
			return
		}
		f.To = now.Add(time.Duration(n) * time.Hour)
	}
	if after := q.Get("after"); after != "" {
		serial, err := hex.DecodeString(after)
		from, err2 := time.Parse(time.RFC3339Nano, q.Get("from"))
		if err != nil || err2 != nil || len(serial) == 0 || len(serial) > 20 {
			bad()
			return
		}
		f.After, f.From, v.Later = serial, from.UTC(), true
	}
	rows, err := s.Store.Certificates(r.Context(), f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(rows) > perPage {
		rows = rows[:perPage]
		last := rows[perPage-1]
		next := url.Values{"after": {hex.EncodeToString(last.Serial)}, "from": {last.NotAfter.UTC().Format(time.RFC3339Nano)}}
		if v.Within != "" {
			next.Set("within", v.Within)
		}
		v.More = "?" + next.Encode()
	}
	v.Rows = rows
	s.show(w, r, http.StatusOK, "certificates", page{Title: "Certificates", At: "certificates", Body: v})
}
