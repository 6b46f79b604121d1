package workload

import (
	"errors"
	"fmt"
	"strings"
)

func checkFile(f rawFile) (File, error) {
	out := File{Kind: f.Kind, Name: f.Name, Prot: f.Prot, Addr: f.Addr, Host: f.Host, ClientCA: f.ClientCA, ClientAuth: f.ClientAuth, CA: f.CA, Evidence: f.Evidence}
	allowed := map[string]bool{"name": true}
	switch f.Kind {
	case "null", "stdin", "stdout", "stderr":
		if out.Name == "" {
			out.Name = f.Kind
		}
	case "listen":
		for _, k := range []string{"prot", "addr", "port", "client_ca", "client_auth", "evidence"} {
			allowed[k] = true
		}
		if out.Name == "" {
			return out, errors.New("a listen entry needs a name")
		}
		if out.Addr == "" {
			out.Addr = "::"
		}
	case "connect":
		for _, k := range []string{"prot", "host", "port", "ca"} {
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
		{"client_ca", f.ClientCA != ""}, {"client_auth", f.ClientAuth != ""}, {"ca", f.CA != ""}, {"evidence", f.Evidence}} {
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
		if f.Prot != "tls" && (f.ClientCA != "" || f.ClientAuth != "" || f.CA != "") {
			return out, errors.New(`certificates belong to prot = "tls"`)
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
	switch f.ClientAuth {
	case "", "none":
		if f.ClientAuth == "" && f.ClientCA != "" {
			out.ClientAuth = "request"
		}
	case "request", "require":
		if f.ClientCA == "" {
			return out, errors.New("client_auth needs client_ca")
		}
	default:
		return out, fmt.Errorf("client_auth: found %q, wanted none, request or require", f.ClientAuth)
	}
	return out, nil
}
