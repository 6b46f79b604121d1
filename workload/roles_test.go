package workload

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const rolesToml = `roles = ["alice", "bob"]
[[files]]
kind = "stdout"
[[files]]
kind = "listen"
role = "bob"
name = "peer"
prot = "tls"
attest = "p.toml"
[[files]]
kind = "connect"
role = "alice"
name = "peer"
prot = "tls"
host = "h"
attest = "p.toml"
[[files]]
kind = "listen"
role = "alice"
name = "web"
prot = "tls"
[[files]]
kind = "listen"
role = "bob"
name = "web"
prot = "tls"
`

const peerPolicy = "version = 1\nsame_workload = true\n[snp]\n"

// THREATS T13: a role changes what a Keep has, and no digest.
func TestT13Roles(t *testing.T) {
	dir := folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": rolesToml, "p.toml": peerPolicy})
	all, err := Load(dir, Flags{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Config.Descriptors()) != 5 || len(all.Config.Environ()) != 0 || len(all.Layers) != 1 {
		t.Errorf("in no role: found %d descriptors, %q, %d layers", len(all.Config.Descriptors()), all.Config.Environ(), len(all.Layers))
	}
	for role, want := range map[string][]string{
		"alice": {"DONJON_ROLE=alice", "FD_COUNT=3", "FD_NAMES=stdout:peer:web"},
		"bob":   {"DONJON_ROLE=bob", "FD_COUNT=3", "FD_NAMES=stdout:peer:web"},
	} {
		w, err := Load(dir, Flags{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.InRole(role); err != nil {
			t.Fatal(err)
		}
		if w.Digest != all.Digest || w.Host.Role != role || w.Config.Role() != role {
			t.Errorf("%s: found %s, %+v", role, w.Digest, w.Host)
		}
		_, env, err := w.Config.Input(w.Host)
		if err != nil || !reflect.DeepEqual(env, want) {
			t.Errorf("%s: found %q, %v, wanted %q", role, env, err, want)
		}
		for _, f := range w.Config.Descriptors() {
			if f.Role != "" && f.Role != role {
				t.Errorf("%s has a descriptor of %s", role, f.Role)
			}
		}
		if _, _, err := w.Config.Input(HostInput{Role: "other"}); err == nil {
			t.Errorf("%s: the host's role is another, and taken", role)
		}
		// The canonical form has the roles of all.
		b, err := w.Config.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseConfig(b); err != nil || !reflect.DeepEqual(again.Files, all.Config.Files) || !reflect.DeepEqual(again.Roles, all.Config.Roles) {
			t.Errorf("%s: found %+v, %v", role, again, err)
		}
	}
	for _, role := range []string{"", "carol", "Alice"} {
		var usage *UsageError
		if w := *all; !errors.As(w.InRole(role), &usage) {
			t.Errorf("the role %q is taken", role)
		}
	}
	plain, err := Load(folder(t, map[string]string{"main.wasm": string(wasm)}), Flags{})
	if err != nil {
		t.Fatal(err)
	}
	if plain.InRole("alice") == nil || plain.InRole("") != nil {
		t.Error("a workload without roles takes one, or wants one")
	}
}

func TestPeerKeysRefused(t *testing.T) {
	listen := func(s string) string { return "[[files]]\nkind = \"listen\"\nname = \"x\"\n" + s }
	connect := func(s string) string { return "[[files]]\nkind = \"connect\"\nhost = \"h\"\n" + s }
	for _, c := range []struct{ name, toml, what string }{
		{"attest on tcp", listen("prot = \"tcp\"\nattest = \"p\""), "tls"},
		{"attest on stdout", "[[files]]\nkind = \"stdout\"\nattest = \"p\"", "no attest"},
		{"attest beside authorities", connect("prot = \"tls\"\nattest = \"p\"\nca = \"c\""), "spiffe"},
		{"attest beside clients' authorities", listen("prot = \"tls\"\nattest = \"p\"\nclient_ca = \"c\""), "spiffe"},
		{"attest beside client_auth", listen("prot = \"tls\"\nattest = \"p\"\nclient_auth = \"any\""), "spiffe"},
		{"attest beside evidence by HTTP", listen("prot = \"tls\"\nattest = \"p\"\nevidence = true"), "no Keeps"},
		{"attest outside", connect("prot = \"tls\"\nattest = \"../p\""), "../p"},
		{"a header on tcp", listen("prot = \"tcp\"\npeer_header = \"proxy-v2\""), "tls"},
		{"another header", listen("prot = \"tls\"\npeer_header = \"proxy\""), "proxy-v2"},
		{"a header for a server", connect("prot = \"tls\"\npeer_header = \"proxy-v2\""), "no peer_header"},
		{"any, and authorities", listen("prot = \"tls\"\nclient_auth = \"any\"\nclient_ca = \"c\""), "authorities"},
		{"an age of no Keep", listen("prot = \"tls\"\nmax_age = \"1h\""), "attest"},
		{"an age of nothing", connect("prot = \"tls\"\nattest = \"p\"\nmax_age = \"1ms\""), "max_age"},
		{"an age of years", connect("prot = \"tls\"\nattest = \"p\"\nmax_age = \"721h\""), "max_age"},
		{"an age on stdout", "[[files]]\nkind = \"stdout\"\nmax_age = \"1h\"", "no max_age"},
		{"a role that is not listed", listen("prot = \"tls\"\nrole = \"bob\""), "roles"},
		{"one name in a role twice", "roles = [\"a\"]\n" + listen("prot = \"tls\"\nrole = \"a\"\n") + listen("prot = \"tls\"\nrole = \"a\""), "twice"},
		{"one name in a role and in all", "roles = [\"a\"]\n" + listen("prot = \"tls\"\nrole = \"a\"\n") + listen("prot = \"tls\""), "twice"},
		{"a role twice", "roles = [\"a\", \"a\"]", "twice"},
		{"no role", "roles = [\"\"]", "role"},
		{"a role with a space", "roles = [\"a b\"]", "role"},
		{"a long role", "roles = [\"" + strings.Repeat("a", 33) + "\"]", "role"},
		{"many roles", "roles = [" + strings.Repeat("\"a\",", 65) + "]", "at most"},
		{"much collateral", "collateral = [" + strings.Repeat("\"a\",", 17) + "]", "at most"},
		{"collateral outside", "collateral = [\"/etc/x\"]", "/etc/x"},
		{"the role's variable", "roles = [\"a\"]\n[env]\nDONJON_ROLE = \"a\"", "DONJON_ROLE"},
		{"the role's variable of the host", "roles = [\"a\"]\nhost_env = [\"DONJON_ROLE\"]", "DONJON_ROLE"},
		{"the role's variable as a secret", "roles = [\"a\"]\nsteward = \"https://s\"\nsteward_ca = \"c\"\n[[secrets]]\nname = \"n\"\nenv = \"DONJON_ROLE\"", "DONJON_ROLE"},
	} {
		_, err := parse([]byte(c.toml), "Donjon.toml")
		var ce *ConfigError
		if !errors.As(err, &ce) || !strings.Contains(ce.What, c.what) {
			t.Errorf("%s: found %v, wanted %q", c.name, err, c.what)
		}
	}
}

// Policies and vendor data are read when the workload is loaded: what is wrong in them
// is said with the line, and not by a Keep that refuses all its peers.
func TestPoliciesAreReadAtLoading(t *testing.T) {
	conf := rolesToml
	for _, c := range []struct {
		name, config, policy string
		line                 int
		what                 string
	}{
		{"unknown key", conf, "version = 1\nsame_worklod = true\n[snp]\n", 2, "same_worklod"},
		{"no TOML", conf, "version = 1\n[snp", 2, ""},
		{"nothing admitted", conf, "version = 1\n", 0, "no section"},
		{"a role of its own", conf, "version = 1\nsame_workload = true\npeer_role = \"alice\"\n[snp]\n", 0, "own role"},
		{"a name of no Steward", conf, "version = 1\nspiffe = [\"spiffe://x/y\"]\n[snp]\n", 0, "steward"},
		{"no collateral", "collateral = [\"c.json\"]\n" + conf, peerPolicy, 0, "no collateral"},
		{"good", conf, peerPolicy, 0, "-"},
		{"good, by the Steward's name", "steward = \"https://s\"\nsteward_ca = \"ca.pem\"\n" + conf, "version = 1\nspiffe = [\"spiffe://x/y\"]\n[snp]\n", 0, "-"},
	} {
		_, err := Load(folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": c.config, "p.toml": c.policy, "c.json": "nothing", "ca.pem": ""}), Flags{})
		if c.what == "-" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var ce *ConfigError
		if !errors.As(err, &ce) || ce.Line != c.line || !strings.Contains(ce.What, c.what) || ce.File != "p.toml" && ce.File != "c.json" {
			t.Errorf("%s: found %v, wanted line %d, %q", c.name, err, c.line, c.what)
		}
	}
	// A policy of another peer is another workload.
	one, err := Load(folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": conf, "p.toml": peerPolicy}), Flags{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := Load(folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": conf, "p.toml": peerPolicy + "# \n"}), Flags{})
	if err != nil || one.Digest == two.Digest {
		t.Errorf("the policy is not measured (%v)", err)
	}
}
