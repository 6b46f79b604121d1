package workload

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckModule(t *testing.T) {
	for _, c := range []struct{ name, module, want string }{
		{"a module", "\x00asm\x01\x00\x00\x00", ""},
		{"one with more behind", "\x00asm\x01\x00\x00\x00\x00\x02\x01x", ""},
		{"empty", "", "empty"},
		{"text", "hello\n", "no WebAssembly module"},
		{"one byte", "\x00", "no WebAssembly module"},
		{"cut", "\x00asm\x01", "cut short"},
		{"a component", "\x00asm\x0d\x00\x01\x00", "component"},
		{"another version", "\x00asm\x02\x00\x00\x00", "version"},
	} {
		w := &Workload{Config: &Config{}, Module: []byte(c.module)}
		err := w.CheckModule()
		var me *ModuleError
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &me) || me.Hint() == "" || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: found %v, wanted %q", c.name, err, c.want)
		}
	}
	if err := (&Workload{Config: &Config{Builtin: BuiltinSealer}}).CheckModule(); err != nil {
		t.Errorf("a built-in: found %v", err)
	}
}
