package fetch

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
)

func TestEverythingFor(t *testing.T) {
	v := newVendor(t)
	c, k := v.client(t)
	for _, x := range []struct {
		name  string
		c     *claims.Claims
		want  [4]int
		paths []string
	}{
		{"SNP", v.snpClaims(), [4]int{3, 1, 0, 0}, []string{chainPath, v.vcekPath(), crlPath}},
		{"TDX", tdxClaims(), [4]int{6, 2, 1, 1}, []string{tcbPath, qePath, pckPath, rootPath}},
	} {
		reqs, err := Requests(x.c, Standard)
		if err != nil {
			t.Fatal(err)
		}
		for round := range 2 { // the second time everything is in the cache
			set, results, err := c.All(context.Background(), reqs)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.Err != nil || r.Problem != nil || r.Cached != (round == 1) {
					t.Errorf("%s round %d: %s: cached %v, %v %v", x.name, round, r.Request.What, r.Cached, r.Err, r.Problem)
				}
			}
			if got := counts(set); got != x.want {
				t.Errorf("%s: found %v, wanted %v (certificates, lists, TCB infos, QE identities)", x.name, got, x.want)
			}
		}
		for _, p := range x.paths {
			if n := v.asked(p); n != 1 {
				t.Errorf("%s: %s was asked %d times, wanted once", x.name, p, n)
			}
		}
	}
	if len(k.slept) > 0 {
		t.Errorf("slept %v", k.slept)
	}
	// A second client, offline, has it all from the folder.
	off := &Client{Cache: c.Cache, Now: k.Now, Sleep: k.Sleep, Roots: c.Roots, Offline: true}
	reqs, _ := Requests(v.snpClaims(), Standard)
	for _, r := range reqs {
		if res, err := off.Get(context.Background(), r); err != nil || !res.Cached {
			t.Errorf("offline: %s: %v", r.What, err)
		}
	}
	if _, err := off.Get(context.Background(), must(t)(AMDList("Genoa"))); !errors.Is(err, ErrNotCached) {
		t.Errorf("offline and not there: %v", err)
	}
}

func TestRevalidation(t *testing.T) {
	v := newVendor(t)
	c, k := v.client(t)
	get := func(r Request, wantAsked int, path string) Result {
		t.Helper()
		res, err := c.Get(context.Background(), r)
		if err != nil || res.Problem != nil {
			t.Fatal(err, res.Problem)
		}
		if n := v.asked(path); n != wantAsked {
			t.Errorf("at %s: asked %d times, wanted %d", k.Now(), n, wantAsked)
		}
		return res
	}
	info := must(t)(TCBInfo(claims.TDX, []byte{0xb0, 0xc0, 0x6f, 0, 0, 0}, ""))
	get(info, 1, tcbPath)
	k.advance(23 * time.Hour)
	get(info, 1, tcbPath)
	k.advance(2 * time.Hour) // over a day
	v.tcbInfo(v.signing, 19, k.Now())
	if res := get(info, 2, tcbPath); res.Cached {
		t.Error("the new one was not taken")
	}
	k.advance(-48 * time.Hour) // a clock that runs backwards vouches for nothing
	get(info, 3, tcbPath)
	c.MaxAge = 365 * 24 * time.Hour
	k.advance(48*time.Hour + 30*24*time.Hour) // its nextUpdate is over
	v.tcbInfo(v.signing, 19, k.Now())
	get(info, 4, tcbPath)
	// Certificates do not change: the key is asked for once.
	key := must(t)(VCEK("Milan", v.chip, v.tcb))
	get(key, 1, v.vcekPath())
	k.advance(365 * 24 * time.Hour)
	get(key, 1, v.vcekPath())
}

func TestBadDays(t *testing.T) {
	fmc := uint8(1)
	for _, x := range []struct {
		name string
		path func(v *vendor) string
		req  func(v *vendor) (Request, error)
		set  func(v *vendor, c *Client) http.HandlerFunc
		why  string
		want int // times asked
	}{
		{"429 for ever", pathOf(crlPath), list, status(429), "429", 4},
		{"503 for ever", pathOf(crlPath), list, status(503), "503", 4},
		{"404", pathOf(crlPath), list, status(404), "404", 1},
		{"501", pathOf(crlPath), list, status(501), "501", 1},
		{"an empty answer", pathOf(crlPath), list, fixed(""), "empty", 1},
		{"an HTML page with 200", pathOf(crlPath), list, fixed("<html><body>down for maintenance</body></html>"), "not what was asked for", 1},
		{"a huge answer", pathOf(crlPath), list, func(*vendor, *Client) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				for range 6 {
					_, _ = w.Write(make([]byte, 1<<20))
				}
			}
		}, "at most", 1},
		{"a truncated answer", pathOf(crlPath), list, func(*vendor, *Client) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte("0"))
			}
		}, "breaks off", 4},
		{"a slow drip", pathOf(crlPath), list, func(_ *vendor, c *Client) http.HandlerFunc {
			c.TryTime, c.Tries = 50*time.Millisecond, 2
			c.HTTP = patient{c.HTTP}
			return func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte("0"))
				w.(http.Flusher).Flush()
				<-r.Context().Done() // for ever
				panic(http.ErrAbortHandler)
			}
		}, "breaks off", 2},
		{"a redirect to another host", pathOf(crlPath), list, func(*vendor, *Client) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://169.254.169.254/latest", http.StatusFound)
			}
		}, "not followed", 1},
		{"a redirect to plain http", pathOf(crlPath), list, func(v *vendor, _ *Client) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, strings.Replace(v.srv.URL, "https", "http", 1)+crlPath, http.StatusFound)
			}
		}, "not followed", 1},
		{"redirects in a circle", pathOf(crlPath), list, func(*vendor, *Client) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, crlPath, http.StatusFound) }
		}, "not followed", 3},
		{"a list by another signer", pathOf(crlPath), list, func(v *vendor, _ *Client) http.HandlerFunc {
			return body((*authority)(nil).issue(v.t, "ARK-Milan", true).list(v.t, start, 30))
		}, "does not hold", 1},
		{"a list of another issuer", pathOf(crlPath), list, func(v *vendor, _ *Client) http.HandlerFunc {
			return body(v.intel.list(v.t, start, 30))
		}, "Intel SGX Root CA", 1},
		{"the key of another chip", (*vendor).vcekPath, key, func(v *vendor, _ *Client) http.HandlerFunc {
			return body(v.ask.issue(v.t, "SEV-VCEK", false, vcekExtensions(v.t, make([]byte, 64), v.tcb)...).cert.Raw)
		}, "chip", 1},
		{"the key at another TCB", (*vendor).vcekPath, key, func(v *vendor, _ *Client) http.HandlerFunc {
			return body(v.ask.issue(v.t, "SEV-VCEK", false, vcekExtensions(v.t, v.chip, claims.SNPTCB{BootLoader: 3, SNP: 9, Microcode: 169})...).cert.Raw)
		}, "another TCB", 1},
		{"the key with an FMC", (*vendor).vcekPath, key, func(v *vendor, _ *Client) http.HandlerFunc {
			tcb := v.tcb
			tcb.FMC = &fmc
			return body(v.ask.issue(v.t, "SEV-VCEK", false, vcekExtensions(v.t, v.chip, tcb)...).cert.Raw)
		}, "another TCB", 1},
		{"the key by another signer", (*vendor).vcekPath, key, func(v *vendor, _ *Client) http.HandlerFunc {
			return body((*authority)(nil).issue(v.t, "SEV-Milan", true).issue(v.t, "SEV-VCEK", false, vcekExtensions(v.t, v.chip, v.tcb)...).cert.Raw)
		}, "not signed", 1},
		{"no key at all", (*vendor).vcekPath, key, func(v *vendor, _ *Client) http.HandlerFunc { return body(chainOf(v.ask)) }, "lacks", 1},
		{"a chain of another root", pathOf(chainPath), func(*vendor) (Request, error) { return AMDChain("Milan", false) }, func(v *vendor, _ *Client) http.HandlerFunc {
			ark := (*authority)(nil).issue(v.t, "ARK-Milan", true)
			return body(chainOf(ark.issue(v.t, "SEV-Milan", true), ark))
		}, "does not hold", 1},
		{"the VLEK's chain for the VCEK's", pathOf(chainPath), func(*vendor) (Request, error) { return AMDChain("Milan", false) }, func(v *vendor, _ *Client) http.HandlerFunc {
			return body(chainOf(v.asvk, v.ark))
		}, "SEV-Milan", 1},
		{"a TCB info by the wrong signer", pathOf(tcbPath), info, func(v *vendor, _ *Client) http.HandlerFunc {
			v.tcbInfo(v.intel.issue(v.t, "Somebody Else", false), 18, start)
			return nil
		}, "does not hold", 1},
		{"a TCB info without a chain", pathOf(tcbPath), info, func(v *vendor, _ *Client) http.HandlerFunc {
			return body([]byte(v.signing.sign(v.t, "tcbInfo", tcbBody("TDX", 18, start))))
		}, "does not hold", 1},
		{"a TCB info of the other TEE", pathOf(tcbPath), info, func(v *vendor, _ *Client) http.HandlerFunc {
			return body([]byte(v.signing.sign(v.t, "tcbInfo", tcbBody("SGX", 18, start))))
		}, "SGX", 1},
		{"a QE identity for a TCB info", pathOf(tcbPath), info, func(v *vendor, _ *Client) http.HandlerFunc {
			return body([]byte(v.signing.sign(v.t, "enclaveIdentity", qeBody("TD_QE", start))))
		}, "1 QE identities", 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			v := newVendor(t)
			c, _ := v.client(t)
			r := must(t)(x.req(v))
			// A good answer first, so that there is a stale one to fall back on.
			bare := &Client{HTTP: c.HTTP, Now: c.Now, Sleep: c.Sleep, Roots: c.Roots, KDSBase: c.KDSBase, PCSBase: c.PCSBase}
			if _, err := bare.Get(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			before := v.asked(x.path(v))
			if f := x.set(v, c); f != nil {
				v.set(x.path(v), f)
			}
			_, err := c.Get(context.Background(), r)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), x.why) {
				t.Errorf("found %v, wanted an Error that says %q", err, x.why)
			}
			if n := v.asked(x.path(v)) - before; n != x.want {
				t.Errorf("asked %d times, wanted %d", n, x.want)
			}
			if _, err := c.Cache.Load(r.Key()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was kept: %v", err)
			}
		})
	}
}

func pathOf(p string) func(*vendor) string { return func(*vendor) string { return p } }
func list(*vendor) (Request, error)        { return AMDList("Milan") }
func key(v *vendor) (Request, error)       { return VCEK("Milan", v.chip, v.tcb) }
func info(*vendor) (Request, error) {
	return TCBInfo(claims.TDX, []byte{0xb0, 0xc0, 0x6f, 0, 0, 0}, "")
}
func fixed(s string) func(*vendor, *Client) http.HandlerFunc {
	return func(*vendor, *Client) http.HandlerFunc { return body([]byte(s)) }
}
func status(n int) func(*vendor, *Client) http.HandlerFunc {
	return func(*vendor, *Client) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
	}
}

// For hours the server is down: what the cache has is given, and says how old it is.
func TestStaleIsServed(t *testing.T) {
	v := newVendor(t)
	c, k := v.client(t)
	r := must(t)(info(v))
	if _, err := c.Get(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	v.set(tcbPath, status(503)(v, c))
	for hours, expired := range map[int]bool{25: false, 24 * 40: true} {
		k.mu.Lock()
		k.now = start.Add(time.Duration(hours) * time.Hour)
		k.mu.Unlock()
		res, err := c.Get(context.Background(), r)
		if err != nil || !res.Cached || res.Problem == nil || res.Expired(k.Now()) != expired || !res.Fetched.Equal(start) || len(res.Set.TCBInfos) != 1 {
			t.Errorf("after %d hours: %+v, %v; wanted the stale one, expired %v", hours, res, err, expired)
		}
	}
	// A server that gives older than before is not believed either.
	k.advance(1000 * time.Hour)
	v.tcbInfo(v.signing, 17, k.Now())
	res, err := c.Get(context.Background(), r)
	if err != nil || !res.Cached || res.Problem == nil || !strings.Contains(res.Problem.Error(), "evaluation number 17") {
		t.Errorf("an older one: %+v, %v", res, err)
	}
	// It comes back.
	v.tcbInfo(v.signing, 18, k.Now())
	if res, err := c.Get(context.Background(), r); err != nil || res.Cached || res.Problem != nil {
		t.Errorf("found %+v, %v", res, err)
	}
}

func TestPatience(t *testing.T) {
	v := newVendor(t)
	c, k := v.client(t)
	good := v.answer[crlPath]
	n := 0
	v.set(crlPath, func(w http.ResponseWriter, r *http.Request) {
		if n++; n <= 2 {
			w.Header().Set("Retry-After", []string{"", "7", start.Add(20 * time.Second).Format(http.TimeFormat)}[n])
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		good(w, r)
	})
	if _, err := c.Get(context.Background(), must(t)(AMDList("Milan"))); err != nil {
		t.Fatal(err)
	}
	if len(k.slept) != 2 || k.slept[0] != 7*time.Second || k.slept[1] != 13*time.Second {
		t.Errorf("slept %v, wanted 7s as told in seconds, then 13s as told by a date", k.slept)
	}

	// Told to come back in an hour: fail at once, for this and whatever else is asked.
	c, k = v.client(t)
	v.set(crlPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	before := v.asked(chainPath)
	var e *Error
	if _, err := c.Get(context.Background(), must(t)(AMDList("Milan"))); !errors.As(err, &e) || !e.RetryAt.Equal(start.Add(time.Hour)) || e.Hint() == "" {
		t.Errorf("found %v, wanted an Error with the time", err)
	}
	if _, err := c.Get(context.Background(), must(t)(AMDChain("Milan", false))); !errors.As(err, &e) || v.asked(chainPath) != before || !strings.Contains(err.Error(), chainPath) {
		t.Errorf("asked again at once: %v", err)
	}
	if len(k.slept) != 0 {
		t.Errorf("slept %v", k.slept)
	}
	k.advance(time.Hour)
	if _, err := c.Get(context.Background(), must(t)(AMDChain("Milan", false))); err != nil {
		t.Errorf("an hour later: %v", err)
	}

	// Keys are asked for at the key server's pace.
	c, k = v.client(t)
	for i := range 3 {
		chip := make([]byte, 64)
		chip[0] = byte(i + 1)
		_, err := c.Get(context.Background(), must(t)(VCEK("Milan", chip, v.tcb)))
		if !errors.As(err, &e) || e.Status != 404 {
			t.Fatal(err)
		}
	}
	if len(k.slept) != 2 || k.slept[0] != 10*time.Second || k.slept[1] != 10*time.Second {
		t.Errorf("slept %v, wanted twice 10s", k.slept)
	}
	for in, want := range map[string]time.Time{"": {}, "-1": {}, "x": {}, "99999999999999999999": {}, "4000000000": start.Add(24 * time.Hour), "0": start,
		start.Add(-time.Hour).Format(http.TimeFormat): {}, start.AddDate(9, 0, 0).Format(http.TimeFormat): start.Add(24 * time.Hour)} {
		if got := retryAfter(in, start); !got.Equal(want) {
			t.Errorf("Retry-After %q: found %s, wanted %s", in, got, want)
		}
	}
}

func TestOneRequestForMany(t *testing.T) {
	v := newVendor(t)
	c, _ := v.client(t)
	good := v.answer[crlPath]
	here, goOn := make(chan struct{}), make(chan struct{})
	v.set(crlPath, func(w http.ResponseWriter, r *http.Request) {
		close(here) // a second request would panic
		<-goOn
		good(w, r)
	})
	r := must(t)(AMDList("Milan"))
	var wg sync.WaitGroup
	ask := func() {
		if res, err := c.Get(context.Background(), r); err != nil || len(res.Set.Lists) != 1 {
			t.Error(err)
		}
	}
	wg.Go(ask)
	<-here
	c.mu.Lock()
	f := c.flights[r.Key()]
	c.mu.Unlock()
	if f == nil {
		t.Fatal("no request is under way")
	}
	for range 5 {
		wg.Go(ask)
	}
	// One who goes away does not take the others along.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Get(ctx, r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(goOn)
	wg.Wait()
	// Who came after it was done has it from the cache.
	if n := v.asked(crlPath); n != 1 {
		t.Errorf("asked %d times, wanted once", n)
	}
	if len(c.flights) != 0 {
		t.Errorf("%d requests are left", len(c.flights))
	}
}

func TestServers(t *testing.T) {
	v := newVendor(t)
	c, _ := v.client(t)
	r := must(t)(AMDList("Milan"))
	c.HTTP = NewHTTP(nil, nil)
	before := v.asked(crlPath)
	_, err := c.Get(context.Background(), r)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "unknown authority") || !strings.Contains(e.Hint(), "authority") || v.asked(crlPath) != before {
		t.Errorf("a server of an unknown authority: %v", err)
	}
	for _, bad := range []string{"http://kds.example", "ftp://kds.example", "kds.example", "https://user@kds.example", "https://", "http://127.0.0.1.example", "%"} {
		c.KDSBase = bad
		if _, err := c.Get(context.Background(), r); !errors.As(err, &e) || !strings.Contains(err.Error(), "wanted https") {
			t.Errorf("address %s: %v", bad, err)
		}
	}
	// A PCCS answers for both of Intel's servers, and gives lists as hexadecimal.
	c, _ = v.client(t)
	c.PCSBase, c.IntelCABase, c.PCCS = "https://unused.invalid", "https://unused.invalid", v.srv.URL+"/sgx/certification/v4/"
	v.set("/sgx/certification/v4/rootcacrl", body([]byte(hexOf(v.intel.list(t, start, 30)))))
	reqs, err := Requests(tdxClaims(), Standard)
	if err != nil {
		t.Fatal(err)
	}
	_, results, _ := c.All(context.Background(), reqs)
	for _, r := range results {
		if r.Err != nil {
			t.Errorf("PCCS: %s: %v", r.Request.What, r.Err)
		}
	}
	if len(results) != 4 || v.asked("/sgx/certification/v4/rootcacrl") != 1 || v.asked(rootPath) != 0 {
		t.Error("the PCCS was not asked for the root's list")
	}
}

func TestCacheIsLookedAt(t *testing.T) {
	v := newVendor(t)
	c, k := v.client(t)
	dir := string(c.Cache.(Dir))
	r := must(t)(AMDList("Milan"))
	if _, err := c.Get(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, r.Key()+".json")
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("found mode %v, %v; wanted 0600", st, err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var other collateral.Bundle
	other.Add(&collateral.Set{Certificates: collateralOf(t, chainOf(v.ask)).Certificates}, start)
	wrong, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var forged collateral.Bundle
	forged.Add(collateralOf(t, (*authority)(nil).issue(t, "ARK-Milan", true).list(t, start, 30)), start)
	fake, err := forged.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var late collateral.Bundle
	late.Add(collateralOf(t, good), start.AddDate(5, 0, 0))
	future, err := late.Encode()
	if err != nil {
		t.Fatal(err)
	}
	n := v.asked(crlPath)
	for name, bad := range map[string][]byte{"cut short": good[:len(good)/2], "empty": nil, "something else": wrong, "another signer": fake, "from the future": future} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		res, err := c.Get(context.Background(), r)
		if n++; err != nil || res.Cached || v.asked(crlPath) != n {
			t.Errorf("%s: %+v, %v, asked %d times, wanted %d", name, res, err, v.asked(crlPath), n)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	for _, bad := range []string{"", "..", strings.Repeat("A", 64), strings.Repeat("a", 63) + "/"} {
		if err := Dir(dir).Save(bad, nil); err == nil {
			t.Errorf("key %q: accepted", bad)
		}
		if _, err := Dir(dir).Load(bad); err == nil {
			t.Errorf("key %q: accepted", bad)
		}
	}
	// A cache that cannot be written costs the cache, not the answer.
	c.Cache = Dir(filepath.Join(path, "below-a-file"))
	k.advance(time.Hour)
	if res, err := c.Get(context.Background(), r); err != nil || res.Problem == nil || len(res.Set.Lists) != 1 {
		t.Errorf("found %+v, %v", res, err)
	}
}

func TestBoundedFolder(t *testing.T) {
	d := Dir(t.TempDir())
	for i := range maxEntries {
		if err := os.WriteFile(filepath.Join(string(d), keyOf(i)+".json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Save(keyOf(maxEntries), nil); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("found %v", err)
	}
	if err := d.Save(keyOf(0), []byte("x")); err != nil {
		t.Errorf("what is there already can be replaced: %v", err)
	}
}
