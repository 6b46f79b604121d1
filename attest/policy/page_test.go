package policy

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// kindOf is how the page calls a type.
func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Digest]():
		return "digest"
	case reflect.TypeFor[Duration]():
		return "time"
	case reflect.TypeFor[Version]():
		return "version"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "number"
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Struct:
		return "table"
	case reflect.Map:
		return "table of " + strings.TrimPrefix(plural(kindOf(t.Elem())), "a ")
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "array of tables"
		}
		return "list of " + plural(kindOf(t.Elem()))
	}
	return "a " + t.String()
}

func plural(s string) string {
	if rest, ok := strings.CutPrefix(s, "list of "); ok {
		return "lists of " + rest
	}
	return s + "s"
}

// keysOf are a table's keys by the struct's tags; embedded structs have a part of the
// page of their own.
func keysOf(t *testing.T, s reflect.Type) map[string]string {
	out := map[string]string{}
	for i := range s.NumField() {
		f := s.Field(i)
		if f.Anonymous || !f.IsExported() {
			continue
		}
		key := f.Tag.Get("toml")
		if key == "" {
			t.Errorf("%s.%s has no key", s, f.Name)
		}
		out[key] = kindOf(f.Type)
	}
	return out
}

// docs/policy.md has every key of every table with its type, a default and a meaning,
// and no other.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]reflect.Type{
		"Top level": reflect.TypeFor[Policy](), "[[waive]]": reflect.TypeFor[Waiver](), "[[signers]]": reflect.TypeFor[Signer](), "[snp]": reflect.TypeFor[SNP](), "[snp.floors.PRODUCT]": reflect.TypeFor[SNPFloor](),
		"[sgx] and [tdx], the platform": reflect.TypeFor[Intel](), "[sgx]": reflect.TypeFor[SGX](), "[[sgx.signers]]": reflect.TypeFor[SGXSigner](),
		"[tdx]": reflect.TypeFor[TDX](), "[[tdx.measurements]]": reflect.TypeFor[TDXMeasurement](), "[tpm]": reflect.TypeFor[TPM](), "[nitro]": reflect.TypeFor[Nitro](),
	}
	// Every struct that a policy can hold has its part.
	known := map[reflect.Type]bool{}
	for _, s := range tables {
		known[s] = true
	}
	var walk func(reflect.Type)
	walk = func(s reflect.Type) {
		switch s.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(s.Elem())
		case reflect.Struct:
			if !known[s] {
				t.Errorf("no part of the page is about %s", s)
			}
			for i := range s.NumField() {
				if s.Field(i).IsExported() {
					walk(s.Field(i).Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[Policy]())

	row := regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")
	for _, part := range strings.Split(string(b), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		s, ok := tables[title]
		if !ok {
			continue
		}
		delete(tables, title)
		keys := keysOf(t, s)
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			if kind, ok := keys[m[1]]; !ok {
				t.Errorf("%s: %s is no key, or stands twice", title, m[1])
			} else if kind != m[2] {
				t.Errorf("%s: %s is called a %s, and is a %s", title, m[1], m[2], kind)
			}
			delete(keys, m[1])
		}
		for k, kind := range keys {
			t.Errorf("%s: %s (%s) is not described", title, k, kind)
		}
	}
	for title := range tables {
		t.Errorf("there is no part %q", title)
	}
	// What is shown as a policy is one.
	n := 0
	for _, block := range regexp.MustCompile(`(?m)(^    .*\n|^\n)+`).FindAllString(string(b), -1) {
		text := strings.ReplaceAll(block, "    ", "")
		if !strings.Contains(text, "version = 1") {
			continue
		}
		n++
		if _, err := Parse([]byte(text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if n < 2 {
		t.Errorf("found %d policies on the page", n)
	}
}

// The defaults that the page tells.
func TestPageDefaults(t *testing.T) {
	b, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	list := func(s []string) string { return "`[\"" + strings.Join(s, "\", \"") + "\"]`" }
	for _, want := range []string{
		"| `products` | list of texts | " + list(snpProducts()) + " |",
		"| `xfrm_allowed` | number | `" + fmt.Sprintf("%#x", sgxDefaultXFRM) + "` |",
		"| `xfam_allowed` | number | `" + fmt.Sprintf("%#x", tdxDefaultXFAM) + "` |",
		"| `bank` | text | `\"" + (&TPM{}).bank() + "\"` |",
		"| `freshness` | text | `\"" + Default().Freshness + "\"` |",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the page does not say %s", want)
		}
	}
	for _, f := range snpFloors {
		if f.component != "snp" || !strings.Contains(string(b), "| `snp` | number | Milan 24, Genoa 23 |") || map[string]uint8{"Milan": 24, "Genoa": 23}[f.product] != f.level {
			t.Errorf("the page does not tell the floor of %s: %s %d", f.product, f.component, f.level)
		}
	}
}
