package workload

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// PeerHeaderProxy is the value of peer_header: a PROXY protocol header of version 2.
const PeerHeaderProxy = "proxy-v2"

// The age of a connection between Keeps. A verdict is of one moment: certificates are
// revoked and levels fall while a connection stands.
const (
	defaultAge = 24 * time.Hour
	leastAge   = time.Second
	maxAge     = 30 * 24 * time.Hour
)

func checkFile(f rawFile) (File, error) {
	out := File{Kind: f.Kind, Name: f.Name, Prot: f.Prot, Addr: f.Addr, Host: f.Host, ClientCA: f.ClientCA, ClientAuth: f.ClientAuth, CA: f.CA, Evidence: f.Evidence,
		Attest: f.Attest, PeerHeader: f.PeerHeader, Role: f.Role}
	allowed := map[string]bool{"name": true, "role": true}
	switch f.Kind {
	case "null", "stdin", "stdout", "stderr":
		if out.Name == "" {
			out.Name = f.Kind
		}
	case "listen":
		for _, k := range []string{"prot", "addr", "port", "client_ca", "client_auth", "evidence", "attest", "max_age", "peer_header"} {
			allowed[k] = true
		}
		if out.Name == "" {
			return out, errors.New("a listen entry needs a name")
		}
		if out.Addr == "" {
			out.Addr = "::"
		}
	case "connect":
		for _, k := range []string{"prot", "host", "port", "ca", "attest", "max_age"} {
			allowed[k] = true
		}
		if out.Host == "" {
			return out, errors.New("a connect entry needs a host")
		}
		if out.Name == "" {
			out.Name = out.Host
		}
	default:
		return out, fmt.Errorf("kind: found %q, wanted null, stdin, stdout, stderr, listen or connect", f.Kind)
	}
	for _, k := range []struct {
		name string
		set  bool
	}{{"prot", f.Prot != ""}, {"addr", f.Addr != ""}, {"host", f.Host != ""}, {"port", f.Port != nil},
		{"client_ca", f.ClientCA != ""}, {"client_auth", f.ClientAuth != ""}, {"ca", f.CA != ""}, {"evidence", f.Evidence},
		{"attest", f.Attest != ""}, {"max_age", f.MaxAge != ""}, {"peer_header", f.PeerHeader != ""}} {
		if k.set && !allowed[k.name] {
			return out, fmt.Errorf("a %s entry has no %s", f.Kind, k.name)
		}
	}
	if strings.Contains(out.Name, ":") && f.Name != "" {
		return out, fmt.Errorf("name: found %q, wanted one without ':'", out.Name)
	}
	if err := errors.Join(text("name", out.Name), text("host", out.Host), text("addr", out.Addr)); err != nil {
		return out, err
	}
	if f.Kind == "listen" || f.Kind == "connect" {
		switch f.Prot {
		case "tls":
			out.Port = 443
		case "tcp":
			out.Port = 80
		default:
			return out, fmt.Errorf("prot: found %q, wanted tls or tcp", f.Prot)
		}
		if f.Prot != "tls" && (f.ClientCA != "" || f.ClientAuth != "" || f.CA != "" || f.Attest != "" || f.PeerHeader != "") {
			return out, errors.New(`certificates, evidence and what says who a peer is belong to prot = "tls"`)
		}
		if f.Prot != "tls" && f.Evidence {
			return out, errors.New(`evidence belongs to prot = "tls"`)
		}
	}
	if f.Port != nil {
		if *f.Port < 1 || *f.Port > 65535 {
			return out, fmt.Errorf("port: found %d, wanted 1 to 65535", *f.Port)
		}
		out.Port = uint16(*f.Port)
	}
	if f.Attest != "" && (f.ClientCA != "" || f.ClientAuth != "" || f.CA != "") {
		return out, errors.New("attest stands beside no ca, client_ca or client_auth: the evidence says who the peer is; where the Steward must have named it, spiffe in the policy demands that")
	}
	if f.Attest != "" && f.Evidence {
		return out, errors.New("evidence is for clients that are no Keeps, and a listener with attest has none")
	}
	switch age, err := parseDuration(f.MaxAge); {
	case err != nil:
		return out, fmt.Errorf("max_age: %w", err)
	case f.Attest == "" && f.MaxAge != "":
		return out, errors.New("max_age is the age of a connection with attest")
	case f.MaxAge != "" && (age < leastAge || age > maxAge):
		return out, fmt.Errorf("max_age: found %s, wanted %s to %s", age, leastAge, maxAge)
	case f.Attest != "":
		if out.MaxAge = age; age == 0 {
			out.MaxAge = defaultAge
		}
	}
	if f.PeerHeader != "" && f.PeerHeader != PeerHeaderProxy {
		return out, fmt.Errorf("peer_header: found %q, wanted %q", f.PeerHeader, PeerHeaderProxy)
	}
	switch f.ClientAuth {
	case "", "none":
		if f.ClientAuth == "" && f.ClientCA != "" {
			out.ClientAuth = "request"
		}
	case "request", "require":
		if f.ClientCA == "" {
			return out, errors.New("client_auth needs client_ca")
		}
	case "any":
		if f.ClientCA != "" {
			return out, errors.New(`client_auth = "any" takes a certificate of nobody in particular, and client_ca names authorities`)
		}
	default:
		return out, fmt.Errorf("client_auth: found %q, wanted none, request, require or any", f.ClientAuth)
	}
	return out, nil
}
