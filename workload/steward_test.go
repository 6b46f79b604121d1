package workload

import (
	"strings"
	"testing"
)

func TestStewardAddr(t *testing.T) {
	for in, want := range map[string]struct {
		host string
		port uint16
	}{
		"https://steward.example":         {"steward.example", 443},
		"https://steward.example/":        {"steward.example", 443},
		"https://127.0.0.1:8443":          {"127.0.0.1", 8443},
		"https://[::1]:8443/":             {"::1", 8443},
		"https://[2001:db8::1]":           {"2001:db8::1", 443},
		"HTTPS://Steward_1.example:65535": {"Steward_1.example", 65535},
	} {
		c, err := ParseConfig([]byte("steward = \"" + in + "\""))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if host, port := c.StewardAddr(); host != want.host || port != want.port {
			t.Errorf("%s: found %s, %d", in, host, port)
		}
	}
	if host, _ := new(Config).StewardAddr(); host != "" {
		t.Errorf("without a Steward: found %q", host)
	}
	for _, bad := range []string{
		"http://s", "//s", "s", "https://", "https://:443", "https:///x", "https://s/path", "https://s/?", "https://s?q", "https://s#f", "https://s#",
		"https://u@s", "https://u:p@s", "https://s:0", "https://s:65536", "https://s:x", "https://[fe80::1%25eth0]", "https://[::1", "https://a b",
		"https://s%0d%0aX:1", "https://s\\u0000", "https://" + strings.Repeat("a", 254), "https://ü", "https://s:", "ftp://s",
	} {
		c, err := ParseConfig([]byte("steward = \"" + bad + "\""))
		if err == nil && bad == "https://s:" { // an empty port is the default one (RFC 3986 section 3.2.3)
			if _, port := c.StewardAddr(); port != 443 {
				t.Errorf("%s: found port %d", bad, port)
			}
			continue
		}
		if err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// What was measured is not hidden by a secret, nor a secret by it.
func TestSecretsHaveTheirOwnPlace(t *testing.T) {
	file := func(p string) string { return "[[secrets]]\nname = \"n\"\nfile = \"" + p + "\"\n" }
	env := func(k string) string { return "[[secrets]]\nname = \"n\"\nenv = \"" + k + "\"\n" }
	data := func(g string) string { return "[[data]]\npath = \"x\"\nguest = \"" + g + "\"\n" }
	scratch := func(g string) string { return "[[scratch]]\nguest = \"" + g + "\"\n" }
	for name, c := range map[string]struct {
		in   string
		text string // of the error; "" is none
	}{
		"its own folder":             {data("/data") + scratch("/tmp") + file("/secrets/a") + file("/secrets/b") + file("/secrets/sub/c") + env("A") + env("B"), ""},
		"at the root alone":          {file("/a"), ""},
		"beside by name":             {data("/sec") + file("/secrets/a"), ""},
		"both ways":                  {file("/secrets/a") + env("A"), ""},
		"a variable of env":          {"[env]\nA = \"x\"\n" + env("A"), "stands in env too"},
		"a variable twice":           {env("A") + env("A"), "twice"},
		"FD_NAMES":                   {env("FD_NAMES"), "descriptors"},
		"FD_COUNT":                   {env("FD_COUNT"), "descriptors"},
		"a file twice":               {file("/s/a") + file("/s/a"), "each other"},
		"a file in a file":           {file("/s/a") + file("/s/a/b"), "each other"},
		"a file around a file":       {file("/s/a/b") + file("/s/a"), "each other"},
		"a data folder":              {data("/data") + file("/data/a"), "overlap"},
		"inside a data folder":       {data("/data") + file("/data/sub/a"), "overlap"},
		"a data folder inside":       {data("/secrets/data") + file("/secrets/a"), "overlap"},
		"the very path":              {data("/s/a") + file("/s/a"), "overlap"},
		"scratch":                    {scratch("/tmp") + file("/tmp/a"), "overlap"},
		"at the root beside folders": {data("/data") + file("/a"), "overlap"},
	} {
		_, err := ParseConfig([]byte("steward = \"https://s\"\nsteward_ca = \"ca\"\n" + c.in))
		switch {
		case c.text == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%s: found %v, wanted %q", name, err, c.text)
		}
	}
}
