package workload

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

const full = `steward = "https://steward.example:8443/"
steward_ca = "ca.pem"
args = ["a", "b\nc"]
tee = ["snp", "sim"]
debug_log = true

[env]
A = "1"

[limits]
memory = "256MiB"
cpu_time = "10s"
wall_time = "1m30s"
output = "10MiB"

[[files]]
kind = "stdin"

[[files]]
kind = "listen"
name = "web"
prot = "tls"
client_ca = "clients.pem"

[[files]]
kind = "connect"
prot = "tcp"
host = "db.example"
port = 5432

[[data]]
path = "data"
guest = "/data"

[[scratch]]
guest = "/tmp"

[[secrets]]
name = "token"
env = "TOKEN"
`

func TestParseConfigFull(t *testing.T) {
	got, err := ParseConfig([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Args: []string{"a", "b\nc"}, Env: map[string]string{"A": "1"}, HasFiles: true,
		Files: []File{
			{Kind: "stdin", Name: "stdin"},
			{Kind: "listen", Name: "web", Prot: "tls", Addr: "::", Port: 443, ClientCA: "clients.pem", ClientAuth: "request"},
			{Kind: "connect", Name: "db.example", Prot: "tcp", Host: "db.example", Port: 5432},
		},
		Limits:  Limits{Memory: 256 << 20, CPUTime: 10 * time.Second, WallTime: 90 * time.Second, Output: 10 << 20},
		Data:    []Data{{Path: "data", Guest: "/data"}},
		Scratch: []Scratch{{Guest: "/tmp", Size: 64 << 20}},
		Steward: "https://steward.example:8443/", StewardCA: "ca.pem",
		Secrets: []Secret{{Name: "token", Env: "TOKEN"}}, TEE: []string{"snp", "sim"}, DebugLog: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found  %+v\nwanted %+v", got, want)
	}
	paths := []NamedPath{{"ca.pem", false}, {"clients.pem", false}, {"data", true}}
	if !reflect.DeepEqual(got.Paths(), paths) {
		t.Errorf("paths: found %v, wanted %v", got.Paths(), paths)
	}
}

// Whether files was declared decides what the guest is told and given.
func TestFilesDeclared(t *testing.T) {
	for _, c := range []struct {
		name, toml string
		fds        int
		environ    []string
	}{
		{"none", ``, 3, []string{}},
		{"empty", `files = []`, 0, []string{"FD_COUNT=0", "FD_NAMES="}},
		{"two", "files = [{kind=\"null\"}, {kind=\"stdout\", name=\"o\"}]", 2, []string{"FD_COUNT=2", "FD_NAMES=null:o"}},
		{"overridden", "files = []\n[env]\nFD_COUNT = \"9\"", 0, []string{"FD_COUNT=9", "FD_NAMES="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := ParseConfig([]byte(c.toml))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(cfg.Descriptors()); n != c.fds {
				t.Errorf("found %d descriptors, wanted %d", n, c.fds)
			}
			if e := cfg.Environ(); !reflect.DeepEqual(e, c.environ) {
				t.Errorf("environment: found %q, wanted %q", e, c.environ)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	listen := func(s string) string { return "[[files]]\nkind = \"listen\"\nname = \"x\"\n" + s }
	steward := "steward = \"https://s\"\nsteward_ca = \"ca\"\n"
	for _, c := range []struct {
		name, toml string
		line       int
		what, hint string
	}{
		{"unknown key", "args = []\nstewardd = 1", 2, `unknown key "stewardd"`, `"steward"`},
		{"unknown key in a table", "[limits]\n\nmemroy = \"1MiB\"", 3, `"limits.memroy"`, `"memory"`},
		{"unknown key in files", "[[files]]\nkind = \"null\"\nprto = \"tls\"", 3, `"files.prto"`, `"prot"`},
		{"a key of another table", "[limits]\nsteward = \"x\"", 2, "steward", "valid keys here"},
		{"wrong type", "\nargs = 3", 2, "args: found an integer, wanted an array of strings", ""},
		{"wrong type in files", "[[files]]\nport = \"80\"", 2, "files.port: found a string, wanted a whole number", ""},
		{"wrong type of a variable", "[env]\nA = true", 2, "env.A: found a boolean, wanted a string", ""},
		{"syntax", "args = [", 1, "", ""},
		{"not UTF-8", "args = [\"\xff\"]", 0, "UTF-8", ""},
		{"nested", "x = " + strings.Repeat("[", 1<<19), 0, "nested", ""},
		{"a long dotted key", strings.Repeat("a.", 1<<18) + "a = 1", 0, "keys", ""},
		{"very many keys", "[env]\n" + strings.Repeat("k = ''\n", 1<<17), 0, "keys", ""},
		{"very many tables", strings.Repeat("[[files]]\n", 100_000), 0, "keys", ""},
		{"too long", strings.Repeat("#\n", MaxConfig/2+1), 0, "bytes", ""},
		{"env name", "[env]\n\"A=B\" = \"x\"", 0, "A=B", ""},
		{"zero byte", `args = ["\u0000"]`, 0, "zero byte", ""},
		{"tee", `tee = ["sev"]`, 0, `"sev"`, ""},
		{"kind", "[[files]]\nkind = \"pipe\"", 0, `"pipe"`, ""},
		{"listen without name", "[[files]]\nkind = \"listen\"\nprot = \"tls\"", 0, "name", ""},
		{"listen without prot", listen(""), 0, "prot", ""},
		{"host in listen", listen("prot = \"tcp\"\nhost = \"h\""), 0, "no host", ""},
		{"colon", "[[files]]\nkind = \"null\"\nname = \"a:b\"", 0, "':'", ""},
		{"port 0", listen("prot = \"tcp\"\nport = 0"), 0, "port", ""},
		{"port 65536", listen("prot = \"tcp\"\nport = 65536"), 0, "port", ""},
		{"certificates on tcp", listen("prot = \"tcp\"\nclient_ca = \"x\""), 0, "tls", ""},
		{"evidence on tcp", listen("prot = \"tcp\"\nevidence = true"), 0, "evidence belongs to", ""},
		{"evidence of a connection", "[[files]]\nkind = \"connect\"\nprot = \"tls\"\nhost = \"h\"\nevidence = true", 0, "no evidence", ""},
		{"require without authorities", listen("prot = \"tls\"\nclient_auth = \"require\""), 0, "client_ca", ""},
		{"two listeners of one name", "files = [{kind=\"listen\",name=\"a\",prot=\"tcp\"},{kind=\"listen\",name=\"a\",prot=\"tls\"}]", 0, "twice", ""},
		{"too many files", "files = [" + strings.Repeat("{kind=\"null\"},", maxFiles+1) + "]", 0, "files", ""},
		{"memory", "[limits]\nmemory = \"0MiB\"", 0, "limits.memory", ""},
		{"memory that overflows", "[limits]\nmemory = \"17592186044415GiB\"", 0, "limits.memory", ""},
		{"time", "[limits]\ncpu_time = \"-1s\"", 0, "limits.cpu_time", ""},
		{"data above", "[[data]]\npath = \"../x\"\nguest = \"/x\"", 0, `"../x"`, ""},
		{"data absolute", "[[data]]\npath = \"/etc\"\nguest = \"/x\"", 0, `"/etc"`, ""},
		{"data unclean", "[[data]]\npath = \"a/../b\"\nguest = \"/x\"", 0, `"a/../b"`, ""},
		{"guest relative", "[[data]]\npath = \"x\"\nguest = \"x\"", 0, "guest", ""},
		{"guest unclean", "[[scratch]]\nguest = \"/x/../y\"", 0, "guest", ""},
		{"guest twice", "[[data]]\npath = \"x\"\nguest = \"/x\"\n[[scratch]]\nguest = \"/x\"", 0, "twice", ""},
		{"authorities outside", "[[files]]\nkind = \"connect\"\nprot = \"tls\"\nhost = \"h\"\nca = \"../ca\"", 0, "../ca", ""},
		{"steward by http", `steward = "http://s"`, 0, "https", ""},
		{"secrets without steward", "[[secrets]]\nname = \"n\"\nenv = \"E\"", 0, "steward_ca", ""},
		{"secrets without authorities", "steward = \"https://s\"\n[[secrets]]\nname = \"n\"\nenv = \"E\"", 0, "steward_ca", ""},
		{"secret twice placed", steward + "[[secrets]]\nname = \"n\"\nenv = \"E\"\nfile = \"/f\"", 0, "either", ""},
		{"secret in a relative file", steward + "[[secrets]]\nname = \"n\"\nfile = \"f\"", 0, "absolute", ""},
		{"T06 host arguments beside secrets", steward + "host_args = true\n[[secrets]]\nname = \"n\"\nenv = \"E\"", 0, "secrets", ""},
		{"T06 host environment beside secrets", steward + "host_env = [\"A\"]\n[[secrets]]\nname = \"n\"\nenv = \"E\"", 0, "secrets", ""},
		{"host folder beside a Steward", steward + "[[host_dirs]]\nguest = \"/w\"", 0, "host_dirs", ""},
		{"host folder with its path", "[[host_dirs]]\npath = \"/home\"\nguest = \"/w\"", 0, "--dir", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse([]byte(c.toml), "Donjon.toml")
			var ce *ConfigError
			if !errors.As(err, &ce) {
				t.Fatalf("found %v, wanted a *ConfigError", err)
			}
			if !strings.Contains(ce.What, c.what) || !strings.Contains(ce.Hint(), c.hint) {
				t.Errorf("found %q (hint %q), wanted %q (hint %q)", ce.What, ce.Hint(), c.what, c.hint)
			}
			if c.line > 0 && (ce.Line != c.line || ce.Column < 1) {
				t.Errorf("found line %d column %d, wanted line %d", ce.Line, ce.Column, c.line)
			}
		})
	}
}

func TestBoundedCountsOutsideStringsAndComments(t *testing.T) {
	many := strings.Repeat("[{", 100)
	for _, c := range []struct {
		name, toml string
		ok         bool
	}{
		{"comment", "# " + many + "\nargs = []", true},
		{"comment at the end", "args = [] # " + many, true},
		{"basic", `args = ["\"` + many + `"]`, true},
		{"literal", `args = ['\` + many + `']`, true},
		{"lines", "args = [\"\"\"\n\"\"" + many + "\\\"\"\"\"\"]", true},
		{"literal lines", "args = ['''\n" + many + "'''']", true},
		{"behind a string", `args = ["", ` + many, false},
		{"behind lines", `args = ["""x"""", ` + many, false},
		{"behind a comment", "#\"\nargs = " + many, false},
		{"over many lines", "args = " + strings.Repeat("[\n", 100), false},
		{"open string", "args = \"\n" + many, false},
	} {
		if err := bounded([]byte(c.toml)); (err == nil) != c.ok {
			t.Errorf("%s: found %v, wanted accepted: %v", c.name, err, c.ok)
		}
		if c.ok {
			if _, err := ParseConfig([]byte(c.toml)); err != nil {
				t.Errorf("%s: the sample is no configuration: %v", c.name, err)
			}
		}
	}
}

func TestParseEnarx(t *testing.T) {
	for _, c := range []struct {
		name, toml string
		want       Config
	}{
		{"empty is no descriptors", "", Config{}},
		{"defaults", "steward = \"https://s\"\nargs = [\"7\"]\n[env]\nA = \"b\"\n[[files]]\nkind = \"listen\"\nname = \"L\"\nprot = \"tls\"\n[[files]]\nkind = \"connect\"\nprot = \"tcp\"\nhost = \"h\"",
			Config{Steward: "https://s", Args: []string{"7"}, Env: map[string]string{"A": "b"}, Files: []File{
				{Kind: "listen", Name: "L", Prot: "tls", Addr: "::", Port: 443},
				{Kind: "connect", Name: "h", Prot: "tcp", Host: "h", Port: 80}}}},
		{"a host that is an address names its descriptor", "[[files]]\nkind = \"connect\"\nprot = \"tls\"\nhost = \"::1\"",
			Config{Files: []File{{Kind: "connect", Name: "::1", Prot: "tls", Host: "::1", Port: 443}}}},
		{"names of the kinds", "[[files]]\nkind = \"null\"\n[[files]]\nkind = \"stderr\"\nname = \"e\"",
			Config{Files: []File{{Kind: "null", Name: "null"}, {Kind: "stderr", Name: "e"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseEnarx([]byte(c.toml), "Enarx.toml")
			if err != nil {
				t.Fatal(err)
			}
			c.want.HasFiles = true
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("found  %+v\nwanted %+v", *got, c.want)
			}
			roundTrip(t, got)
		})
	}
	for toml, hint := range map[string]string{
		"\nargz = []":                     `did you mean "args"?`,
		"\n[[files]]\nprto = \"tls\"":     `did you mean "prot"?`,
		"\n[limits]\nmemory = \"1MiB\"":   "valid keys here: steward, args, env, files; what Donjon adds belongs in a Donjon.toml",
		"\n[[files]]\nclient_ca = \"ca\"": "valid keys here: kind, name, prot, addr, host, port; what",
	} {
		_, err := ParseEnarx([]byte(toml), "Enarx.toml")
		var ce *ConfigError
		if !errors.As(err, &ce) || ce.Line < 2 || !strings.HasPrefix(ce.Hint(), hint) {
			t.Errorf("%q: found %v, %+v, wanted the hint %q", toml, err, ce, hint)
		}
	}
	for _, bad := range []string{"[limits]\nmemory = \"1MiB\"", "x = 1", "steward = \"http://s\"",
		"[[files]]\nkind = \"listen\"\nname = \"l\"\nprot = \"tls\"\nclient_ca = \"x\"", "[[files]]\nkind = \"listen\"\nprot = \"tls\""} {
		if _, err := ParseEnarx([]byte(bad), "Enarx.toml"); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// roundTrip checks that the canonical form means the same and is its own
// canonical form.
func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseConfig(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	b2, err := again.Encode()
	if err != nil || !bytes.Equal(b, b2) {
		t.Fatalf("encoding again gives (%v)\n%s\nwanted\n%s", err, b2, b)
	}
	if !reflect.DeepEqual(norm(c), norm(again)) {
		t.Errorf("found %+v\nwanted %+v\n%s", norm(again), norm(c), b)
	}
}

// norm makes nil of what is empty: the two are one to TOML.
func norm(c *Config) Config {
	n := *c
	v := reflect.ValueOf(&n).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); (f.Kind() == reflect.Slice || f.Kind() == reflect.Map) && f.Len() == 0 {
			f.SetZero()
		}
	}
	return n
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{"": 0, "1": 1, "5B": 5, "64MiB": 64 << 20, "1 GiB": 1 << 30, "500kB": 500_000, "16384GiB": 1 << 44} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%q: found %d, %v, wanted %d", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "-1", "+1", "1.5GiB", "MiB", "1TiB", "16385GiB", "17592186044415GiB", "17592186044417", "1_000", "0x10"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q: found %d, wanted an error", s, got)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, s := range []string{"", full, "files = []", "args = [\"\\u007f\\t'\\\"\"]\nenv = {\"\" = \"x\", \"a.b\" = \"c\"}",
		"[[files]]\nkind = \"connect\"\nprot = \"tls\"\nhost = \"::1\"", "[limits]\nmemory = \"1GiB\"\nwall_time = \"1h\"",
		"[env]\n\"a\\nb\" = '''x'''"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseConfig(b); err == nil {
			roundTrip(t, c)
		}
		if c, err := ParseEnarx(b, ""); err == nil {
			roundTrip(t, c)
		}
	})
}
