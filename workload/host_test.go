package workload

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const hostToml = "args = [\"fixed\"]\nhost_args = true\nhost_env = [\"MODE\", \"PORT\"]\n[env]\nMODE = \"safe\"\nKEEP = \"1\"\n"

// T6: what the configuration leaves to the host changes no digest; everything
// else that a flag gives does.
func TestT06HostInputIsNotMeasured(t *testing.T) {
	dir := folder(t, map[string]string{"main.wasm": string(wasm), "Donjon.toml": hostToml})
	plain, err := Load(dir, Flags{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := Load(dir, Flags{Args: []string{"a", "b"}, Env: []string{"MODE=x", "MODE=fast", "PORT="}})
	if err != nil {
		t.Fatal(err)
	}
	if w.Digest != plain.Digest {
		t.Errorf("found digest %s, wanted %s", w.Digest, plain.Digest)
	}
	want := HostInput{Args: []string{"a", "b"}, Env: []string{"MODE=fast", "PORT="}}
	if !reflect.DeepEqual(w.Host, want) {
		t.Errorf("found %+v, wanted %+v", w.Host, want)
	}
	args, env, err := w.Config.Input(w.Host)
	if err != nil || !reflect.DeepEqual(args, []string{"fixed", "a", "b"}) || !reflect.DeepEqual(env, []string{"KEEP=1", "MODE=fast", "PORT="}) {
		t.Errorf("found %q, %q, %v", args, env, err)
	}
	other, err := Load(dir, Flags{Env: []string{"KEEP=2"}})
	if err != nil || other.Digest == plain.Digest {
		t.Errorf("a variable that host_env does not name is not measured (%v)", err)
	}
	if _, err := Load(dir, Flags{Args: []string{strings.Repeat("x", maxText+1)}}); !errors.As(err, new(*UsageError)) {
		t.Errorf("a long argument: found %v, wanted a usage error", err)
	}
}

// T6: the warden asks this of every offer; nothing undeclared passes.
func TestT06HostInputRefused(t *testing.T) {
	none, some := &Config{}, &Config{HostArgs: true, HostEnv: []string{"A", "B"}}
	many := make([]string, maxHostArgs+1)
	for _, c := range []struct {
		name string
		cfg  *Config
		in   HostInput
		text string
	}{
		{"an argument", none, HostInput{Args: []string{"-c"}}, "no host_args"},
		{"an empty argument", none, HostInput{Args: []string{""}}, "no host_args"},
		{"a variable", none, HostInput{Env: []string{"A=1"}}, "at most"},
		{"another variable", some, HostInput{Env: []string{"PATH=1"}}, `"PATH"`},
		{"a prefix of a name", some, HostInput{Env: []string{"AA=1"}}, `"AA"`},
		{"a name without a value", some, HostInput{Env: []string{"A"}}, `"A"`},
		{"no name", some, HostInput{Env: []string{"=1"}}, `""`},
		{"a variable twice", some, HostInput{Env: []string{"A=1", "A=2"}}, "twice"},
		{"the descriptors", &Config{HostEnv: []string{"A"}}, HostInput{Env: []string{"FD_COUNT=1"}}, "FD_COUNT"},
		{"a zero byte", some, HostInput{Args: []string{"a\x00b"}}, "zero byte"},
		{"no UTF-8", some, HostInput{Args: []string{"\xff"}}, "UTF-8"},
		{"many arguments", some, HostInput{Args: many}, "at most"},
		{"much text", some, HostInput{Args: []string{strings.Repeat("x", maxText), strings.Repeat("x", maxText), strings.Repeat("x", maxText),
			strings.Repeat("x", maxText), strings.Repeat("x", maxText), strings.Repeat("x", maxText), strings.Repeat("x", maxText),
			strings.Repeat("x", maxText), "x"}}, "more than"},
	} {
		if _, _, err := c.cfg.Input(c.in); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: found %v, wanted %q", c.name, err, c.text)
		}
	}
	if _, _, err := none.Input(HostInput{}); err != nil {
		t.Error(err)
	}
}

func TestT06HostKeys(t *testing.T) {
	steward := "steward = \"https://s\"\nsteward_ca = \"ca\"\n"
	var names []string
	for i := range maxMembers + 1 {
		names = append(names, fmt.Sprintf("%q", fmt.Sprint("V", i)))
	}
	for toml, text := range map[string]string{
		steward + "host_args = true":                          "Steward",
		steward + "host_env = [\"A\"]":                        "Steward",
		"host_env = [\"\"]":                                   "not empty",
		"host_env = [\"A=B\"]":                                "'='",
		"host_env = [\"A\", \"A\"]":                           "twice",
		"host_env = [\"FD_NAMES\"]":                           "descriptors",
		"host_env = [" + strings.Join(names, ", ") + "]":      "too many",
		"host_env = [\"" + strings.Repeat("A", 65537) + "\"]": "at most",
	} {
		if _, err := ParseConfig([]byte(toml)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.60q: found %v, wanted %q", toml, err, text)
		}
	}
	c, err := ParseConfig([]byte(hostToml))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
}
