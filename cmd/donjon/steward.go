//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/server"
)

func newStewardCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "steward",
		Short: "admit Keeps: certificates, tokens and secrets for those that prove themselves",
		Long: `A Steward appraises the evidence of Keeps against a policy per workload, and gives
those that pass a certificate, a token and their secrets (docs/steward.md).

The verbs beside serve work on a state folder (--state; also while a server runs on
it) or over the network (--server URL --token-file FILE --ca FILE).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStewardServe(a), newStewardInit(a), newStewardWorkload(a), newStewardPolicy(a), newStewardSecret(a),
		newStewardCertificate(a), newStewardDecision(a), newStewardAudit(a), newStewardBackup(a), newStewardRestore(a),
		newStewardConfirm(a), newStewardRotate(a), newStewardSealing(a), newStewardToken(a), newStewardAdopt(a))
	return c
}

// group is a verb that has verbs.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: usageArgs(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(verbs...)
	return c
}

// stewardFlags say which Steward: a state folder, or a server.
type stewardFlags struct {
	state, server, tokenFile, ca string
	asJSON                       bool
	unsealed                     bool // of a state folder: stateOptions.unsealed
}

func (f *stewardFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.state, "state", "", "state `FOLDER` of the Steward (default: this user's)")
	c.Flags().StringVar(&f.server, "server", "", "ask the Steward at this https `URL` instead")
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "an administrator's token, for --server, a `FILE`")
	c.Flags().StringVar(&f.ca, "ca", "", "the roots that the server's certificate must chain to (its ca.pem), for --server, a `FILE`")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	_ = c.MarkFlagDirname("state")
}

// stewardState is the state folder that was named, or this user's.
func (a *app) stewardState(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	dir, err := a.stateDir()
	if err != nil {
		return "", fail(statusFailed, err)
	}
	return filepath.Join(dir, "steward"), nil
}

// A steward is asked through its administrators' routes, wherever it is.
type steward struct {
	client *http.Client
	base   string
	token  string
	close  func()
}

// askSteward opens the state folder, or makes ready to ask the server.
func (a *app) askSteward(f *stewardFlags) (*steward, error) {
	if f.server != "" {
		return f.remote()
	}
	if f.tokenFile+f.ca != "" {
		return nil, usageError(errors.New("--token-file and --ca belong to --server"))
	}
	dir, err := a.stewardState(f.state)
	if err != nil {
		return nil, err
	}
	st, err := a.openState(context.Background(), dir, stateOptions{unsealed: f.unsealed})
	if err != nil {
		return nil, err
	}
	s, err := st.server(context.Background(), nil)
	if err != nil {
		st.close()
		return nil, fail(statusFailed, err)
	}
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	return &steward{client: &http.Client{Transport: local{s.Handler(), who}}, base: "https://local", close: st.close}, nil
}

func (f *stewardFlags) remote() (*steward, error) {
	u, err := url.Parse(f.server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, usageError(fmt.Errorf("--server: found %q, wanted https://HOST:PORT", f.server))
	}
	if f.state != "" {
		return nil, usageError(errors.New("--state and --server name two Stewards"))
	}
	if f.tokenFile == "" || f.ca == "" {
		return nil, usageError(errors.New("--server needs --token-file FILE and --ca FILE"))
	}
	token, err := readPrivate(f.tokenFile, 4096)
	if err != nil {
		return nil, err
	}
	pem, err := readAtMost(f.ca, 1<<20)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fail(statusFailed, fmt.Errorf("--ca %s: no certificate in PEM", f.ca))
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, VerifyConnection: stewardsOwn}, Proxy: nil}
	return &steward{client: &http.Client{Transport: t, Timeout: 5 * time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		base: "https://" + u.Host, token: strings.TrimSpace(string(token)), close: func() {}}, nil
}

// stewardsOwn refuses a server whose certificate comes from elsewhere than the
// intermediate that issues a Steward's own (THREATS T4): a workload has one under the
// same root.
func stewardsOwn(c tls.ConnectionState) error {
	for _, chain := range c.VerifiedChains {
		if len(chain) < 2 {
			continue
		}
		for _, x := range chain[1].Extensions {
			if x.Id.Equal(protocol.MarkerOID) {
				return nil
			}
		}
	}
	return errors.New("its certificate is not one of a Steward's own: it may be a workload that poses as the Steward")
}

// do asks a route. A problem becomes an error; into is filled from JSON, or copied
// to where it is an io.Writer.
func (s *steward) do(method, path string, body any, into any) error {
	var r io.Reader
	contentType := ""
	switch b := body.(type) {
	case nil:
	case []byte:
		r, contentType = bytes.NewReader(b), "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return fail(statusFailed, err)
		}
		r, contentType = bytes.NewReader(text), "application/json"
	}
	req, err := http.NewRequest(method, s.base+path, r)
	if err != nil {
		return fail(statusFailed, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fail(statusFailed, fmt.Errorf("asking the Steward: %w", err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return problemError(resp)
	}
	switch into := into.(type) {
	case nil:
		return nil
	case io.Writer:
		if _, err := io.Copy(into, resp.Body); err != nil {
			return fail(statusFailed, fmt.Errorf("the Steward's answer: %w", err))
		}
		return nil
	default:
		if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(into); err != nil {
			return fail(statusFailed, fmt.Errorf("the Steward's answer: %w", err))
		}
		return nil
	}
}

func problemError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var p protocol.Problem
	if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
		return fail(statusFailed, fmt.Errorf("the Steward answers %s", resp.Status))
	}
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	status := statusFailed
	if p.Code == "policy" || resp.StatusCode == http.StatusBadRequest {
		status = statusUsage
	}
	return fail(status, fmt.Errorf("the Steward refuses (%s): %s", p.Code, text))
}

// local asks a handler in this process, as whoever owns the state folder.
type local struct {
	handler http.Handler
	who     string
}

// RoundTrip implements http.RoundTripper. The answer is streamed.
func (l local) RoundTrip(req *http.Request) (*http.Response, error) {
	r := req.Clone(server.AsLocal(req.Context(), l.who))
	r.RemoteAddr, r.RequestURI = "127.0.0.1:0", r.URL.RequestURI()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	out, in := io.Pipe()
	w := &pipeAnswer{header: http.Header{}, in: in, begun: make(chan int, 1)}
	go func() {
		defer func() {
			if p := recover(); p != nil {
				w.WriteHeader(http.StatusInternalServerError)
				_ = in.CloseWithError(errors.New("the answer was cut off"))
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = in.Close()
		}()
		l.handler.ServeHTTP(w, r)
	}()
	status := <-w.begun
	return &http.Response{StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header.Clone(), Body: out, ContentLength: -1, Request: req}, nil
}

type pipeAnswer struct {
	header http.Header
	in     *io.PipeWriter
	begun  chan int
	done   bool
}

func (w *pipeAnswer) Header() http.Header { return w.header }
func (w *pipeAnswer) WriteHeader(status int) {
	if !w.done {
		w.done = true
		w.begun <- status
	}
}
func (w *pipeAnswer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.in.Write(b)
}

// fileOrStdin reads a file that an argument names; - is stdin.
func (a *app) fileOrStdin(name string, most int64) ([]byte, error) {
	if name != "-" {
		return readAtMost(name, most)
	}
	b, err := io.ReadAll(io.LimitReader(a.stdin, most+1))
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("stdin: %w", err))
	}
	if int64(len(b)) > most {
		return nil, fail(statusFailed, fmt.Errorf("stdin: more than %d bytes", most))
	}
	return b, nil
}

// writeNew writes a result to a file that only this user reads, or to stdout for -.
func (a *app) writeNew(name string, write func(io.Writer) error) error {
	if name == "-" || name == "" {
		return write(a.stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fail(statusFailed, err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		if hintOf(err) == "" {
			err = fail(statusFailed, err)
		}
	}
	return err
}
