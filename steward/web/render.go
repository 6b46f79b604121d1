package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

//go:embed templates assets
var files embed.FS

// pages are the templates by name, parsed once; they hold no state.
var pages = parse("decision", "decisions", "home", "overview", "problem", "sign-in", "verdict", "workload", "workloads", "certificates", "collateral")

func parse(names ...string) map[string]*template.Template {
	funcs := template.FuncMap{
		"esc":     verdict.Escape,
		"lines":   escapeLines,
		"rfc":     func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") },
		"brief":   brief,
		"segment": url.PathEscape,
		"left":    left,
		"hex":     func(b []byte) string { return fmt.Sprintf("%x", b) },
		"words":   outcomeWords,
		"sign":    outcomeSign,
		"class":   outcomeClass,
		"tee":     func(s string) string { return verdict.Escape(teeName(s)) },
		"reason":  reason,
		"vendor":  vendorWord,
		"dict":    dict,
	}
	base := template.Must(template.New("layout.html").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	out := map[string]*template.Template{}
	for _, n := range names {
		out[n] = template.Must(template.Must(base.Clone()).ParseFS(files, "templates/"+n+".html"))
	}
	return out
}

// page is what the layout needs.
type page struct {
	Title string
	At    string // the entry of the menu
	Body  any

	Admin      *admin
	SignOut    string
	Simulated  bool // the Steward admits simulated evidence
	CA, Health string
	Now        time.Time
}

// show renders a page whole before anything is sent, so that an error can still be
// answered with one.
func (s *site) show(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	if p.Admin == nil {
		p.Admin = adminOf(r.Context())
	}
	if p.Admin != nil {
		p.SignOut = formToken(p.Admin.id, "/sign-out")
	}
	p.Simulated, p.CA, p.Health, p.Now = s.AllowSimulated, s.CAPath, s.HealthPath, s.Now().UTC()
	var b bytes.Buffer
	if err := pages[name].Execute(&b, p); err != nil {
		s.Log.Error("page", "page", name, "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

type problemView struct{ Title, Text string }

func (s *site) problem(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	s.show(w, r, status, "problem", page{Title: title, Body: problemView{title, text}})
}

// fail answers for an error of the store. Details go to the log alone.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.problem(w, r, http.StatusNotFound, "Not found", "There is nothing here under this number or name.")
		return
	case errors.Is(err, store.ErrInvalid):
		s.problem(w, r, http.StatusBadRequest, "Not that way", "This address names nothing that could be here.")
		return
	case errors.Is(err, store.ErrTampered):
		s.Log.Error("page", "path", verdict.Escape(r.URL.Path), "error", err)
		s.problem(w, r, http.StatusInternalServerError, "The audit log disagrees",
			"What the database holds here is not what was decided: somebody or something changed it. Run donjon steward audit verify.")
		return
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		s.Log.Error("page", "path", verdict.Escape(r.URL.Path), "error", err)
		w.Header().Set("Retry-After", "5")
		s.problem(w, r, http.StatusServiceUnavailable, "The database does not answer", "Try again in a moment.")
		return
	case errors.Is(err, context.Canceled):
		return // nobody is there to read it
	}
	s.Log.Error("page", "path", verdict.Escape(r.URL.Path), "error", err)
	s.problem(w, r, http.StatusInternalServerError, "Something failed", "The Steward's log says what.")
}

func (s *site) nothing(w http.ResponseWriter, r *http.Request) {
	r, err := s.known(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.problem(w, r, http.StatusMethodNotAllowed, "Not that way", "This address takes no such request.")
		return
	}
	s.problem(w, r, http.StatusNotFound, "Not found", "There is no such page.")
}

// asset gives the style sheet and the icon.
func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	name := r.PathValue("name")
	b, err := files.ReadFile("assets/" + name)
	kind, ok := kinds[path.Ext(name)]
	if err != nil || !ok {
		s.nothing(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(b)
}

type adminKey struct{}

func withAdmin(ctx context.Context, a *admin) context.Context {
	return context.WithValue(ctx, adminKey{}, a)
}

func adminOf(ctx context.Context) *admin {
	a, _ := ctx.Value(adminKey{}).(*admin)
	return a
}

func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(max(wait.Seconds(), 1)))))
}

// escapeLines is verdict.Escape for a text of many lines, each bounded by itself.
func escapeLines(b []byte) string {
	list := strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "\t", "    ")
		list[i] = verdict.Escape(list[i])
	}
	return strings.Join(list, "\n")
}

// brief shortens digests and ids for lists; the whole stands in the title.
func brief(s string) string {
	s = verdict.Escape(s)
	short := strings.TrimPrefix(s, "sha256:")
	if r := []rune(short); len(r) > 16 {
		return string(r[:12]) + "…"
	}
	return short
}

// left says how long it is until a time, in the two greatest units.
func left(now, until time.Time) string {
	d := until.Sub(now)
	if d <= 0 {
		return "ended"
	}
	switch {
	case d < time.Minute:
		return "under a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func outcomeWords(o verdict.Outcome) string {
	switch o {
	case verdict.Admitted:
		return "admitted"
	case verdict.Refused:
		return "refused"
	case verdict.CannotTell:
		return "cannot tell"
	case verdict.NotGenuine:
		return "not genuine"
	case "":
		return "not judged"
	}
	return verdict.Escape(string(o))
}

func outcomeSign(o verdict.Outcome) string {
	switch o {
	case verdict.Admitted:
		return "✔"
	case verdict.CannotTell, "":
		return "–"
	}
	return "✗"
}

// outcomeClass is for the style sheet; what is no outcome has none.
func outcomeClass(o verdict.Outcome) string {
	if slices.Contains(outcomes(), o) {
		return string(o)
	}
	return "none"
}

// reason is a refusal's code where it says more than the outcome.
func reason(o verdict.Outcome, code string) string {
	if strings.ReplaceAll(code, "-", "_") == string(o) {
		return ""
	}
	return verdict.Escape(code)
}

func vendorWord(k collateral.Kind) string {
	names := map[collateral.Kind]string{collateral.Certificate: "certificate", collateral.List: "revocation list", collateral.TCBInfo: "TCB info", collateral.QEIdentity: "QE identity"}
	if n, ok := names[k]; ok {
		return n
	}
	return verdict.Escape(string(k))
}

func teeName(s string) string {
	names := map[string]string{"snp": "SEV-SNP", "tdx": "TDX", "sgx": "SGX", "tpm": "TPM", "nitro": "Nitro", "": "not known"}
	if n, ok := names[s]; ok {
		return n
	}
	return s
}

// dict makes the argument of a template out of pairs.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: wanted pairs")
	}
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		k, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: found %T, wanted a name", pairs[i])
		}
		out[k] = pairs[i+1]
	}
	return out, nil
}
