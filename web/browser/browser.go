// Package browser drives a headless Chromium for the tests of web pages, and looks at a
// page as people do: with the keyboard, on a phone, in light and dark. Tests alone
// import it.
package browser

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Browser is a headless Chromium, driven through the DevTools protocol: messages in
// JSON, each ended by a zero byte, over the pipes 3 and 4.
type Browser struct {
	T       *testing.T // whose the next steps are
	to      io.Writer
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan message
	events  map[string]int // how many of a method came
	trouble []string       // console errors, exceptions, policy violations
	arrived *sync.Cond
	gone    error
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// patience is how long the browser may take for anything.
const patience = time.Minute

// Options are what a browser is told beforehand.
type Options struct {
	// CA is a PEM file: the authorities trusted beside those that the browser comes with.
	// "": certificates are not looked at.
	CA string
	// Hosts is where names lead, in the browser's own form: "MAP name address, …".
	Hosts string
}

// New starts one that does not look at certificates, for as long as t runs. Where there
// is none the test skips.
func New(t *testing.T) *Browser {
	t.Helper()
	return Start(t, Options{})
}

// Start is New with options.
func Start(t *testing.T, o Options) *Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no chromium here (make test installs it as root, see docs/testing.md): the pages were not tried in a browser")
	}
	in, toBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromBrowser, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "donjon-web-")
	if err != nil {
		t.Fatal(err)
	}
	trust := "--ignore-certificate-errors"
	if o.CA != "" {
		trust = "--no-default-browser-check"
		trustAuthority(t, profile, o.CA)
	}
	var stderr bytes.Buffer
	// The sandbox cannot be had as root, and what is shown here is our own.
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
		"--disable-background-networking", "--disable-component-update", trust, "--host-resolver-rules="+o.Hosts, "--hide-scrollbars", "--remote-debugging-pipe",
		"--user-data-dir="+profile, "about:blank")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{in, out}, &stderr
	cmd.Env = append(os.Environ(), "HOME="+profile)
	if err := cmd.Start(); err != nil {
		t.Skipf("chromium does not start: %v", err)
	}
	in.Close()
	out.Close()
	b := &Browser{T: t, to: toBrowser, waiting: map[int]chan message{}, events: map[string]int{}}
	b.arrived = sync.NewCond(&b.mu)
	done := make(chan struct{})
	go func() { defer close(done); b.listen(fromBrowser) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		toBrowser.Close()
		fromBrowser.Close()
		<-done
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("chromium: %s", stderr.Bytes()[max(0, stderr.Len()-2000):])
		}
		// Its children may still write for a moment.
		for range 20 {
			if os.RemoveAll(profile) == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.Call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var s struct {
		SessionID string `json:"sessionId"`
	}
	b.Call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &s)
	b.session = s.SessionID
	for _, m := range []string{"Page.enable", "Runtime.enable", "Log.enable", "DOM.enable"} {
		b.Call(m, nil, nil)
	}
	return b
}

// trustAuthority puts an authority into the data base that a user's Chromium reads.
func trustAuthority(t *testing.T, home, pem string) {
	t.Helper()
	tool, err := exec.LookPath("certutil")
	if err != nil {
		t.Skip("no certutil here (libnss3-tools, see docs/testing.md): no browser was told to trust an authority")
	}
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-n", "test", "-t", "C,,", "-i", pem}} {
		if out, err := exec.Command(tool, append([]string{"-d", "sql:" + db}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
}

func (b *Browser) listen(r io.Reader) {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		raw, err := in.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			b.gone = err
			for _, w := range b.waiting {
				close(w)
			}
			b.waiting = map[int]chan message{}
			b.arrived.Broadcast()
			b.mu.Unlock()
			return
		}
		var m message
		if json.Unmarshal(raw[:len(raw)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if w := b.waiting[m.ID]; m.ID != 0 && w != nil {
			delete(b.waiting, m.ID)
			w <- m
		} else if m.Method != "" {
			b.events[m.Method]++
			b.note(m)
			b.arrived.Broadcast()
		}
		b.mu.Unlock()
	}
}

// note keeps what a page complained about.
func (b *Browser) note(m message) {
	var p struct {
		Type  string `json:"type"`
		Entry struct {
			Source, Level, Text, URL string
		} `json:"entry"`
	}
	_ = json.Unmarshal(m.Params, &p)
	switch {
	case m.Method == "Runtime.exceptionThrown", m.Method == "Runtime.consoleAPICalled" && p.Type == "error":
		b.trouble = append(b.trouble, string(m.Params))
	case m.Method == "Log.entryAdded" && p.Entry.Level == "error":
		b.trouble = append(b.trouble, fmt.Sprintf("%s: %s (%s)", p.Entry.Source, p.Entry.Text, p.Entry.URL))
	}
}

// Complaints gives and forgets what pages complained about.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.trouble
	b.trouble = nil
	return out
}

// Call calls a method of DevTools in the page and reads its result, where one is wanted.
func (b *Browser) Call(method string, params, result any) {
	b.T.Helper()
	m := message{Method: method, SessionID: b.session}
	if params != nil {
		raw, err := json.Marshal(params)
		if err != nil {
			b.T.Fatal(err)
		}
		m.Params = raw
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	if b.gone != nil {
		b.mu.Unlock()
		b.T.Fatalf("%s: chromium has gone: %v", method, b.gone)
	}
	b.next++
	m.ID = b.next
	b.waiting[m.ID] = answer
	b.mu.Unlock()
	raw, err := json.Marshal(m)
	if err != nil {
		b.T.Fatal(err)
	}
	if _, err := b.to.Write(append(raw, 0)); err != nil {
		b.T.Fatalf("%s: %v", method, err)
	}
	select {
	case a, ok := <-answer:
		if !ok {
			b.T.Fatalf("%s: chromium has gone", method)
		}
		if a.Error != nil {
			b.T.Fatalf("%s: %s", method, a.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(a.Result, result); err != nil {
				b.T.Fatalf("%s: %v", method, err)
			}
		}
	case <-time.After(patience):
		b.T.Fatalf("%s: no answer within %v", method, patience)
	}
}

// Loads waits for the page that action leads to.
func (b *Browser) Loads(action func()) {
	b.T.Helper()
	b.mu.Lock()
	before := b.events["Page.loadEventFired"]
	b.mu.Unlock()
	action()
	timer := time.AfterFunc(patience, b.arrived.Broadcast)
	defer timer.Stop()
	start := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.events["Page.loadEventFired"] == before {
		if b.gone != nil || time.Since(start) >= patience {
			b.T.Fatalf("no page came within %v: %v", patience, b.gone)
		}
		b.arrived.Wait()
	}
}

// Open opens a page and waits for it.
func (b *Browser) Open(url string) {
	b.T.Helper()
	b.Loads(func() { b.Call("Page.navigate", map[string]any{"url": url}, nil) })
}

// Eval evaluates an expression in the page. DevTools is not bound by the page's
// policy.
func (b *Browser) Eval(expression string, result any) {
	b.T.Helper()
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		b.T.Fatalf("%s: %s %s", expression, r.ExceptionDetails.Text, r.ExceptionDetails.Exception.Description)
	}
	if result != nil {
		if err := json.Unmarshal(r.Result.Value, result); err != nil {
			b.T.Fatalf("%s: %v", expression, err)
		}
	}
}

// Text is what the page shows.
func (b *Browser) Text() string {
	b.T.Helper()
	var s string
	b.Eval("document.body.innerText", &s)
	return s
}

// Key presses a key, as the keyboard does.
func (b *Browser) Key(name string) {
	b.T.Helper()
	keys := map[string]struct {
		code int
		text string
	}{"Tab": {9, ""}, "Enter": {13, "\r"}, "Space": {32, " "}}
	k := keys[name]
	down := map[string]any{"type": "keyDown", "key": name, "code": name, "windowsVirtualKeyCode": k.code, "text": k.text}
	if name == "Space" {
		down["key"] = " "
	}
	b.Call("Input.dispatchKeyEvent", down, nil)
	b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": down["key"], "code": name, "windowsVirtualKeyCode": k.code}, nil)
}

// Screen sets the size of the window and the colour scheme, light or dark.
func (b *Browser) Screen(width, height int, scheme string) {
	b.T.Helper()
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Shot takes a picture of what the window shows. With DONJON_WEB_SHOTS it is of the
// whole page and is kept in that folder, for people to look at.
func (b *Browser) Shot(name string) []byte {
	b.T.Helper()
	var r struct {
		Data string `json:"data"`
	}
	dir := os.Getenv("DONJON_WEB_SHOTS")
	b.Call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": dir != ""}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		b.T.Fatal(err)
	}
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
			b.T.Fatal(err)
		}
	}
	return png
}
