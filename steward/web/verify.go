package web

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Bounds of an upload.
const (
	maxUpload      = envelope.MaxSize + 1<<20 // bytes, all of it
	maxParts       = 20
	maxCollateral  = 16 // files
	uploadDeadline = 30 * time.Second
)

type formView struct {
	Form, Message string
	MaxMiB        int
}

type verdictView struct {
	Verdict    *judged
	Name       string // of the file, as the client says
	Size       int
	Collateral []string
	Ignored    []collateral.Ignored
}

func (s *site) verifyForm(w http.ResponseWriter, r *http.Request) {
	r, err := s.known(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.showForm(w, r, http.StatusOK, "")
}

// known puts who is signed in into a public page's context, for its menu.
func (s *site) known(r *http.Request) (*http.Request, error) {
	a, err := s.administrator(r)
	if err != nil || a == nil {
		return r, err
	}
	return r.WithContext(withAdmin(r.Context(), a)), nil
}

func (s *site) showForm(w http.ResponseWriter, r *http.Request, status int, message string) {
	form, err := s.visit(w, r, "/verify")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, status, "home", page{Title: "Judge evidence", At: "verify", Body: formView{form, message, envelope.MaxSize >> 20}})
}

// refusal is an upload that is not judged.
type refusal struct {
	status int
	words  string
}

func (r *refusal) Error() string { return r.words }

// verifyUpload judges what was dropped, and keeps nothing of it.
func (s *site) verifyUpload(w http.ResponseWriter, r *http.Request) {
	if wait, ok := s.Quota(r); !ok {
		retryAfter(w, wait)
		s.showForm(w, r, http.StatusTooManyRequests, "Too much at once from your address. Wait a little, then try again.")
		return
	}
	r, err := s.known(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	view, err := s.upload(w, r)
	var no *refusal
	switch {
	case errors.As(err, &no):
		if no.status == http.StatusServiceUnavailable {
			retryAfter(w, 2*time.Second)
		}
		s.showForm(w, r, no.status, no.words)
	case err != nil:
		s.fail(w, r, err)
	default:
		s.show(w, r, http.StatusOK, "verdict", page{Title: "Verdict: " + outcomeWords(view.Verdict.Outcome), At: "verify", Body: view})
	}
}

func (s *site) upload(w http.ResponseWriter, r *http.Request) (*verdictView, error) {
	busy := &refusal{http.StatusServiceUnavailable, "Many ask at this moment. Try again in a few seconds."}
	if !enter(s.reading) {
		return nil, busy
	}
	defer leave(s.reading)
	// So that slow senders cannot hold the places. Not every server can do it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadDeadline))
	r.Body = http.MaxBytesReader(w, r.Body, maxUpload)
	view := &verdictView{}
	sub, err := readUpload(r, view)
	if err != nil {
		return nil, err
	}
	select { // judging is quick: a short queue, as long as somebody waits
	case s.judging <- struct{}{}:
		defer leave(s.judging)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	v := s.Verify(r.Context(), *sub)
	if v == nil {
		return nil, busy
	}
	view.Verdict, view.Size = newJudged(v, true), len(sub.Evidence)
	return view, nil
}

func enter(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

func leave(places chan struct{}) { <-places }

// readUpload reads the parts in memory, one after the other: the hidden field first,
// so that nothing is read of a form from elsewhere.
func readUpload(r *http.Request, view *verdictView) (*Submission, error) {
	broken := &refusal{http.StatusBadRequest, "The form did not arrive whole. Try again."}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, broken
	}
	sub := &Submission{}
	for n := 0; ; n++ {
		p, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, tooLarge(err, broken)
		}
		if n >= maxParts {
			return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("At most %d files.", maxCollateral+1)}
		}
		limit := int64(envelope.MaxSize)
		if p.FormName() == "form" {
			limit = 256
		}
		b, err := io.ReadAll(io.LimitReader(p, limit+1))
		if err != nil {
			return nil, tooLarge(err, broken)
		}
		if int64(len(b)) > limit {
			return nil, &refusal{http.StatusRequestEntityTooLarge, "That is too large."}
		}
		if n == 0 {
			if p.FormName() != "form" || !formTokenHolds(cookieBytes(r, visitCookie), "/verify", string(b)) {
				return nil, &refusal{http.StatusForbidden, "This page was too old, or cookies are off. Choose the file again."}
			}
			continue
		}
		if err := sub.take(p, b, view); err != nil {
			return nil, err
		}
	}
	if len(sub.Evidence) == 0 {
		return nil, &refusal{http.StatusBadRequest, "Choose a file of evidence first. What arrived was empty."}
	}
	return sub, nil
}

// take takes one part by its name.
func (sub *Submission) take(p *multipart.Part, b []byte, view *verdictView) error {
	name := clip(p.FileName())
	switch p.FormName() {
	case "evidence":
		if sub.Evidence != nil {
			return &refusal{http.StatusBadRequest, "One piece of evidence at a time."}
		}
		sub.Evidence, view.Name = b, name
	case "collateral":
		if len(b) == 0 {
			return nil // nothing was chosen
		}
		if len(view.Collateral) >= maxCollateral {
			return &refusal{http.StatusBadRequest, fmt.Sprintf("At most %d files of vendor data.", maxCollateral)}
		}
		if sub.Collateral == nil {
			sub.Collateral = &collateral.Set{}
		}
		if err := sub.Collateral.Add(name, b); err != nil {
			return &refusal{http.StatusRequestEntityTooLarge, "The vendor data holds more than fits."}
		}
		view.Collateral, view.Ignored = append(view.Collateral, name), sub.Collateral.Ignored
	default:
		return &refusal{http.StatusBadRequest, "The form holds a field that is not known here."}
	}
	return nil
}

func tooLarge(err error, otherwise *refusal) *refusal {
	var m *http.MaxBytesError
	if errors.As(err, &m) {
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("That is too large: at most %d MiB of evidence, %d MiB in all.",
			envelope.MaxSize>>20, maxUpload>>20)}
	}
	return otherwise
}

// clip shortens a file's name.
func clip(s string) string {
	if r := []rune(verdict.Escape(s)); len(r) > 80 {
		return string(r[:77]) + "…"
	}
	return s
}
