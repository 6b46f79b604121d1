package web

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

// nextPage is where a page's link to the next one leads; "": it is the last.
func nextPage(page string) string {
	m := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func TestDecisionsPage(t *testing.T) {
	f := newFixture(t, false, nil)
	a := f.admin(t)
	seqs := func(page string) (out []int) {
		for _, m := range regexp.MustCompile(`href="/decisions/(\d+)"`).FindAllStringSubmatch(page, -1) {
			n, _ := strconv.Atoi(m[1])
			out = append(out, n)
		}
		return out
	}
	var all []int
	for path := "/decisions"; path != ""; {
		page := a.get(path).Body.String()
		all = append(all, seqs(page)...)
		path = nextPage(page)
		if len(all) > 1000 {
			t.Fatal("the pages do not end")
		}
	}
	if len(all) != 137 || all[0] != 137 || all[136] != 1 {
		t.Errorf("paging: found %d decisions, first %d", len(all), all[0])
	}
	page := a.get("/decisions?outcome=refused&from=2026-11-10&to=2026-11-15").Body.String()
	got := seqs(page)
	for _, n := range got {
		d := f.details[n-1]
		if d.Outcome != verdict.Refused || d.At.Before(time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)) || !d.At.Before(time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("the filter lets decision %d through: %v %v", n, d.Outcome, d.At)
		}
	}
	if len(got) == 0 || !strings.Contains(page, `<option value="refused" selected>`) {
		t.Errorf("found %d decisions, or the form forgets what was asked", len(got))
	}
	for _, q := range []string{"outcome=x", "tee=x", "workload=x", "workload=sha256:zz", "instance=%00", "from=yesterday", "to=2026-13-01", "simulated=maybe", "before=-1", "before=x", "before=99999999999999999999"} {
		if w := a.get("/decisions?" + q); w.Code != http.StatusBadRequest {
			t.Errorf("%s: found %d, wanted 400", q, w.Code)
		}
	}
	for _, p := range []string{"/decisions/0", "/decisions/9999", "/decisions/x", "/decisions/-1", "/workloads/x", "/workloads/" + digestOf(99), "/workloads/" + digestOf(0) + "?version=9"} {
		if w := a.get(p); w.Code != http.StatusNotFound {
			t.Errorf("%s: found %d, wanted 404", p, w.Code)
		}
	}
}

func TestSignerPage(t *testing.T) {
	f := newFixture(t, false, nil)
	f.details[4].Record.Signer, f.details[4].Record.SignedName, f.details[4].Record.SignedVersion = acme, "billing", 7
	a := f.admin(t)
	list := a.get("/workloads").Body.String()
	link := "/workloads/signer:" + acme + "%2Fbilling"
	if !strings.Contains(list, `href="`+link+`"`) {
		t.Error("the list does not lead to it")
	}
	page := a.get(link).Body.String()
	for _, want := range []string{"billing, signed", acme, "from 4 on", "9 is the highest that was admitted", "00aa"} {
		if !strings.Contains(page, want) {
			t.Errorf("does not show %q", want)
		}
	}
	if strings.Contains(page, "SIMULATED") {
		t.Error("says that it allows simulated evidence, and it does not")
	}
	decision := a.get("/decisions/5").Body.String()
	for _, want := range []string{`href="` + link + `"`, "billing</a> version 7", `href="` + link + `?version=1"`} {
		if !strings.Contains(decision, want) {
			t.Errorf("the decision does not show %q", want)
		}
	}
}

func TestWorkloadPage(t *testing.T) {
	f := newFixture(t, false, nil)
	page := f.admin(t).get("/workloads/" + digestOf(0)).Body.String()
	for _, want := range []string{"api-key", "db-password", "not before it is confirmed", "What changed in the policy since ", "&#43; allow_simulated = true", "secret confirm --workload", "under the newest policy", "SIMULATED", "allow_simulated = true"} {
		if !strings.Contains(page, want) {
			t.Errorf("does not show %q", want)
		}
	}
	for _, never := range []string{"sealed-bytes", fmt.Sprintf("%x", "sealed-bytes"), "key-id-of-sealing"} {
		if strings.Contains(page, never) {
			t.Errorf("shows %q", never)
		}
	}
}

// TestLinksOfTheChain: every code that exists has a place of its own in the drawing.
func TestLinksOfTheChain(t *testing.T) {
	placed := map[verdict.Code]int{}
	for _, l := range chainLinks {
		for _, c := range l.codes {
			placed[c]++
			if _, known := verdict.Lookup(c); !known {
				t.Errorf("no code %s exists", c)
			}
		}
	}
	for _, i := range verdict.Codes() {
		if placed[i.Code] != 1 {
			t.Errorf("the code %s stands in %d links, wanted one", i.Code, placed[i.Code])
		}
	}
	for _, c := range []struct {
		checks []verdict.Check
		want   string
	}{
		{[]verdict.Check{verdict.Pass(verdict.Chain, ""), verdict.Fail(verdict.EndorsementKey, "", "")}, "failed"},
		{[]verdict.Check{verdict.Skip(verdict.Chain, "", ""), verdict.Pass(verdict.EndorsementKey, "")}, "not-made"},
		{[]verdict.Check{{Code: verdict.Chain, Status: verdict.NotMade, Informal: true}, verdict.Pass(verdict.EndorsementKey, "")}, "part"},
		{[]verdict.Check{{Code: verdict.Nonce, Status: verdict.NotMade, Informal: true}}, "unseen"},
		{[]verdict.Check{{Code: verdict.Nonce, Status: verdict.NotMade, Waived: "why"}, verdict.Skip(verdict.Age, "", "")}, "not-made"},
		{[]verdict.Check{{Code: verdict.Chain, Status: "odd"}}, "failed"},
		{[]verdict.Check{verdict.Pass(verdict.Chain, "")}, "passed"},
	} {
		got := chain(c.checks, nil)
		if len(got) != 1 || got[0].Status() != c.want {
			t.Errorf("%v: found %v", c.checks, got)
		}
	}
}

func TestPlots(t *testing.T) {
	to := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	from := to.Add(-30 * 24 * time.Hour)
	day := 24 * time.Hour
	got := plots([]store.Count{
		{Start: from, TEE: "snp", Outcome: verdict.Admitted, N: 1}, {Start: from.Add(day), TEE: "snp", Outcome: verdict.Admitted, N: 9999},
		{Start: from.Add(day), TEE: "snp", Outcome: verdict.Refused, N: 5}, {Start: from.Add(day), TEE: "snp", Outcome: verdict.NotGenuine, N: 6},
		{Start: to, TEE: "snp", Outcome: verdict.Admitted, N: 7}, {Start: from.Add(-day), TEE: "tdx", Outcome: verdict.Admitted, N: 7},
	}, from, to, store.Day)
	if len(got) != 1 || got[0].Admitted != 10000 || got[0].Refused != 11 || len(got[0].Bars) != 30 {
		t.Fatalf("found %+v", got)
	}
	p := got[0]
	for i, b := range p.Bars {
		if b.Y(p.Base) < plotTop-2 || p.Base+b.Down > plotBottom+2 || b.X < plotLeft || b.X+b.Width > plotWidth {
			t.Errorf("bar %d is outside: %+v", i, b)
		}
	}
	if p.Bars[0].Up < 1 || p.Bars[1].Down < 1 || p.Bars[2].Up != 0 {
		t.Errorf("a bar of one cannot be seen, or one of none can: %+v", p.Bars[:3])
	}
}
