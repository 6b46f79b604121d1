package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
)

// Error is a request that failed.
type Error struct {
	URL     string
	Status  int       // of HTTP; 0: there was no answer, or it was not what was asked for
	RetryAt time.Time // when the server may be asked again; zero: it did not say
	Err     error

	again bool // another try may help
}

func (e *Error) Error() string {
	s := "fetch: " + e.URL + ": " + e.Err.Error()
	if !e.RetryAt.IsZero() {
		s += "; it may be asked again at " + e.RetryAt.UTC().Format(time.RFC3339)
	}
	return s
}
func (e *Error) Unwrap() error { return e.Err }

// Hint says what a person can do.
func (e *Error) Hint() string {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(e.Err, &unknown):
		return "a PCCS with a certificate of its own needs its authority named"
	case e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return "the vendor's server is at its limit or down; wait, or bring collateral in a bundle"
	case e.Status == http.StatusNotFound:
		return "the vendor knows no such platform, or not at this TCB"
	}
	return ""
}

// NewHTTP makes a client for Client.HTTP: TLS 1.2 or later to the given roots and no
// others (nil: to none), no redirects but on the same host, bounded headers.
// proxy may be nil.
func NewHTTP(roots *x509.CertPool, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	if roots == nil {
		roots = x509.NewCertPool() // nil would mean the host's
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  proxy,
			DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 128 << 10,
			DisableCompression:     true, // a small answer stays small
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			if len(via) > 2 || to.URL.Scheme != via[0].URL.Scheme || to.URL.Host != via[0].URL.Host {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// address is where r is asked.
func (c *Client) address(r Request) string {
	base, own, path := map[server]string{kds: KDS, pcs: PCS, intelCA: IntelRootCA}[r.of], "", r.path
	switch {
	case r.of == kds:
		own = c.KDSBase
	case c.PCCS != "":
		own = c.PCCS
		if r.pccs != "" {
			path = r.pccs
		}
	case r.of == pcs:
		own = c.PCSBase
	default:
		own = c.IntelCABase
	}
	if own != "" {
		base = strings.TrimSuffix(strings.TrimRight(own, "/"), "/sgx/certification/v4")
	}
	return base + path
}

// checkAddress refuses what is not https, plain http to this machine apart.
func checkAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("found address %.200q, wanted https://host", address)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return nil, fmt.Errorf("found address %.200q, wanted https (http to this machine alone)", address)
	}
	return u, nil
}

// ask sends r until there is an answer, tries or patience are at their end.
func (c *Client) ask(ctx context.Context, r Request) (*collateral.Set, error) {
	address := c.address(r)
	u, err := checkAddress(address)
	if err != nil {
		return nil, &Error{URL: address, Err: err}
	}
	tries, maxWait := c.Tries, c.MaxWait
	if tries <= 0 {
		tries = 4
	}
	if maxWait <= 0 {
		maxWait = 30 * time.Second
	}
	for try := 1; ; try++ {
		if err := c.wait(ctx, u.Host, r.paced, maxWait); err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.URL = address
			}
			return nil, err
		}
		set, err := c.try(ctx, r, address)
		if err == nil {
			return set, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !err.again {
			return nil, err
		}
		// Other requests to this host wait as long: it is the host that is unwell.
		now := c.Now()
		delay := time.Second << min(try-1, 5)
		if d := err.RetryAt.Sub(now); !err.RetryAt.IsZero() && d > delay {
			delay = d
		}
		if try >= tries {
			delay = max(delay, 2*maxWait)
		}
		c.mu.Lock()
		if c.notBefore == nil {
			c.notBefore = map[string]time.Time{}
		}
		if at := now.Add(delay); at.After(c.notBefore[u.Host]) {
			c.notBefore[u.Host] = at
		}
		c.mu.Unlock()
		if try >= tries || delay > maxWait {
			return nil, err
		}
	}
}

// wait waits until the host may be asked, or says that this is too long.
func (c *Client) wait(ctx context.Context, host string, paced bool, maxWait time.Duration) error {
	now := c.Now()
	c.mu.Lock()
	at := now
	if t := c.notBefore[host]; t.After(now) {
		if at = t; t.Sub(now) > maxWait {
			c.mu.Unlock()
			return &Error{Status: http.StatusServiceUnavailable, RetryAt: t, Err: errors.New("the server failed just now and is left alone")}
		}
	}
	if paced {
		pace := c.Pace
		if pace <= 0 {
			pace = 10 * time.Second
		}
		if t := c.nextPaced[host]; t.After(at) {
			at = t
		}
		if c.nextPaced == nil {
			c.nextPaced = map[string]time.Time{}
		}
		c.nextPaced[host] = at.Add(pace)
	}
	c.mu.Unlock()
	if !at.After(now) {
		return nil
	}
	return c.Sleep(ctx, at.Sub(now))
}

// try sends one request and takes its answer apart.
func (c *Client) try(ctx context.Context, r Request, address string) (*collateral.Set, *Error) {
	fail := func(again bool, err error) (*collateral.Set, *Error) {
		return nil, &Error{URL: address, Err: err, again: again}
	}
	tryTime := c.TryTime
	if tryTime <= 0 {
		tryTime = 30 * time.Second
	}
	short, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	req, err := http.NewRequestWithContext(short, http.MethodGet, address, nil)
	if err != nil {
		return fail(false, err)
	}
	req.Header.Set("User-Agent", "donjon")
	if c.HTTP == nil {
		return fail(false, errors.New("the client has no HTTP"))
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // the address is in Error
		}
		var untrusted *tls.CertificateVerificationError
		return fail(!errors.As(err, &untrusted), err)
	}
	defer resp.Body.Close()
	if resp.Request != nil && (resp.Request.URL.Host != req.URL.Host || resp.Request.URL.Scheme != req.URL.Scheme) {
		return fail(false, fmt.Errorf("it was redirected to %.200q, which is not followed", resp.Request.URL.Host))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.status(resp, address)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, collateral.MaxFile+1))
	if err != nil {
		return fail(true, fmt.Errorf("the answer breaks off after %d bytes: %w", len(body), err))
	}
	answer := &collateral.Set{}
	if err := answer.Add("answer", body); err != nil {
		return fail(false, err)
	}
	for _, h := range r.headers {
		if v := resp.Header.Get(h); v != "" {
			if err := answer.Add("header "+h, []byte(v)); err != nil {
				return fail(false, err)
			}
		}
	}
	set, err := c.accept(ctx, r, answer, false)
	if err != nil {
		for _, i := range answer.Ignored {
			err = fmt.Errorf("%w; %s: %s", err, i.Name, i.Why)
			break
		}
		return fail(false, fmt.Errorf("the answer is not what was asked for: %w", err))
	}
	return set, nil
}

// status is the error of an answer that is not 200.
func (c *Client) status(resp *http.Response, address string) *Error {
	e := &Error{URL: address, Status: resp.StatusCode, Err: fmt.Errorf("the server answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
	switch s := resp.StatusCode; {
	case s >= 300 && s < 400:
		e.Err = fmt.Errorf("it redirects to %.200q, which is not followed", resp.Header.Get("Location"))
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500 && s != http.StatusNotImplemented:
		e.again = true
		e.RetryAt = retryAfter(resp.Header.Get("Retry-After"), c.Now())
	}
	return e
}

// retryAfter reads the header: seconds or a date (RFC 9110, section 10.2.3); zero
// where there is none that makes sense. More than a day counts as a day.
func retryAfter(v string, now time.Time) time.Time {
	const most = 24 * time.Hour
	var at time.Time
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		at = now.Add(min(time.Duration(n)*time.Second, most))
	} else if t, err := http.ParseTime(v); err == nil {
		at = t
	}
	if at.IsZero() || at.Before(now) {
		return time.Time{}
	}
	if at.Sub(now) > most {
		at = now.Add(most)
	}
	return at
}
