package verdict_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

var update = flag.Bool("update", false, "write docs/verdict.schema.json and the table of docs/verdicts.md")

const schemaFile = "../../docs/verdict.schema.json"

type schema = map[string]any

// TestSchema compares the published schema with the Go types: a field that one has
// and the other has not fails. Descriptions are the file's own.
func TestSchema(t *testing.T) {
	b, err := os.ReadFile(schemaFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	var have schema
	if len(b) > 0 {
		if err := json.Unmarshal(b, &have); err != nil {
			t.Fatalf("%s: %v", schemaFile, err)
		}
	}
	want := plain(t, schemaOf(reflect.TypeFor[verdict.Verdict]()))
	describe(want, have)
	if *update {
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(want); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(schemaFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := differ("#", want, have); diff != "" {
		t.Errorf("%s is not what the types say: %s\nwrite it with: go test ./attest/verdict -run Schema -update", schemaFile, diff)
	}
	for name, def := range have["$defs"].(schema) {
		if d, _ := def.(schema)["description"].(string); d == "" {
			t.Errorf("%s: $defs/%s has no description", schemaFile, name)
		}
	}
}

// TestVerdictsFitTheSchema validates what json.Marshal writes, full and bare, and
// what it never writes.
func TestVerdictsFitTheSchema(t *testing.T) {
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	var full verdict.Verdict
	fill(reflect.ValueOf(&full).Elem(), 0)
	full.Outcome, full.Exit = verdict.Refused, 11
	for i := range full.Checks {
		full.Checks[i].Code, full.Checks[i].Status = verdict.Nonce, verdict.NotMade
	}
	for i := range full.Advisories {
		full.Advisories[i].State = "cannot_tell"
	}
	bare := verdict.Verdict{}
	bare.Conclude()
	small := verdict.Verdict{Checks: []verdict.Check{verdict.Pass(verdict.Form, "x")}, Claims: &claims.Claims{TEE: claims.SNP, SNP: &claims.SNPClaims{}}, At: time.Unix(1795521600, 5).In(time.FixedZone("x", -3600))}
	small.Conclude()
	for name, v := range map[string]verdict.Verdict{"full": full, "bare": bare, "small": small} {
		doc := plain(t, v)
		if err := validate(root, root, doc, "#"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	doc := func(change func(m schema)) error {
		m := plain(t, full)
		change(m)
		return validate(root, root, m, "#")
	}
	at := func(m schema, path ...string) schema {
		for _, p := range path {
			m = m[p].(schema)
		}
		return m
	}
	for name, change := range map[string]func(schema){
		"a field too many":      func(m schema) { m["x"] = 1.0 },
		"a field too few":       func(m schema) { delete(m, "outcome") },
		"an unknown outcome":    func(m schema) { m["outcome"] = "fine" },
		"an unknown exit":       func(m schema) { m["exit_status"] = 1.0 },
		"a number as text":      func(m schema) { m["exit_status"] = "10" },
		"a time of no form":     func(m schema) { m["at"] = "yesterday" },
		"an unknown status":     func(m schema) { m["checks"].([]any)[0].(schema)["status"] = "skipped" },
		"a code of no form":     func(m schema) { m["checks"].([]any)[0].(schema)["code"] = "Nonce!" },
		"an unknown state":      func(m schema) { m["advisories"].([]any)[0].(schema)["state"] = "maybe" },
		"hexadecimal capitals":  func(m schema) { at(m, "claims")["report_data"] = "AB" },
		"half a byte":           func(m schema) { at(m, "claims")["report_data"] = "abc" },
		"three registers":       func(m schema) { l := at(m, "claims", "tdx"); l["rtmr"] = l["rtmr"].([]any)[:3] },
		"an SVN over 255":       func(m schema) { at(m, "claims", "intel")["sgx_tcb_components"] = []any{256.0} },
		"an SVN in base64":      func(m schema) { at(m, "claims", "intel")["sgx_tcb_components"] = "AA==" },
		"half a number":         func(m schema) { at(m, "claims", "snp")["vmpl"] = 0.5 },
		"a register of no name": func(m schema) { at(m, "claims", "tpm", "pcrs")["one"] = "ab" },
		"a list as an object":   func(m schema) { m["checks"] = schema{} },
		"deep, a field too many": func(m schema) {
			at(m, "claims", "snp", "current_tcb")["x"] = 1.0
		},
	} {
		if doc(change) == nil {
			t.Errorf("%s: fits the schema", name)
		}
	}
}

// plain is v as encoding/json reads it back.
func plain(t *testing.T, v any) schema {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out schema
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// describe copies the descriptions of the file into what the types say.
func describe(want, have any) {
	w, ok := want.(schema)
	h, ok2 := have.(schema)
	if !ok || !ok2 {
		return
	}
	if d, ok := h["description"].(string); ok {
		w["description"] = d
	}
	for k := range w {
		describe(w[k], h[k])
	}
}

func differ(path string, want, have any) string {
	w, ok := want.(schema)
	h, ok2 := have.(schema)
	if !ok || !ok2 {
		if !reflect.DeepEqual(want, have) {
			return fmt.Sprintf("%s: found %v, wanted %v", path, have, want)
		}
		return ""
	}
	for k := range h {
		if _, ok := w[k]; !ok {
			return path + "/" + k + ": no type has it"
		}
	}
	for k := range w {
		if _, ok := h[k]; !ok {
			return path + "/" + k + ": missing"
		}
		if d := differ(path+"/"+k, w[k], h[k]); d != "" {
			return d
		}
	}
	return ""
}

// fill gives every field a value that is not its zero.
func fill(v reflect.Value, depth int) {
	if depth > 20 {
		panic("a type that holds itself")
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1795521600, 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth+1)
		fill(value, depth+1)
		v.SetMapIndex(key, value)
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(5)
	default:
		panic("no value for " + v.Type().String())
	}
}

// validate is the part of JSON Schema 2020-12 that the file uses; a keyword beyond
// it is an error.
func validate(root, s schema, doc any, path string) error {
	for k, arg := range s {
		var err error
		switch k {
		case "$schema", "$id", "title", "description", "$defs", "additionalProperties": // the last with properties
		case "$ref":
			name, ok := strings.CutPrefix(arg.(string), "#/$defs/")
			def, ok2 := root["$defs"].(schema)[name].(schema)
			if !ok || !ok2 {
				return fmt.Errorf("%s: no definition %v", path, arg)
			}
			err = validate(root, def, doc, path)
		case "type":
			names, many := arg.([]any)
			if !many {
				names = []any{arg}
			}
			if !slices.ContainsFunc(names, func(n any) bool { return isType(n.(string), doc) }) {
				err = fmt.Errorf("%s: found %T, wanted %v", path, doc, arg)
			}
		case "enum":
			if !slices.ContainsFunc(arg.([]any), func(v any) bool { return reflect.DeepEqual(v, doc) }) {
				err = fmt.Errorf("%s: found %v, wanted one of %v", path, doc, arg)
			}
		case "pattern":
			if text, ok := doc.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(text) {
				err = fmt.Errorf("%s: found %q, wanted %s", path, text, arg)
			}
		case "format":
			if _, bad := time.Parse(time.RFC3339, fmt.Sprint(doc)); arg != "date-time" || bad != nil {
				err = fmt.Errorf("%s: found %v, wanted a time", path, doc)
			}
		case "minimum", "maximum":
			if n, ok := doc.(float64); ok && (k == "minimum" && n < arg.(float64) || k == "maximum" && n > arg.(float64)) {
				err = fmt.Errorf("%s: found %v, %s %v", path, n, k, arg)
			}
		case "minItems", "maxItems":
			if l, ok := doc.([]any); ok && (k == "minItems" && len(l) < int(arg.(float64)) || k == "maxItems" && len(l) > int(arg.(float64))) {
				err = fmt.Errorf("%s: found %d items, %s %v", path, len(l), k, arg)
			}
		case "items":
			list, _ := doc.([]any)
			for i, v := range list {
				if err := validate(root, arg.(schema), v, fmt.Sprintf("%s/%d", path, i)); err != nil {
					return err
				}
			}
		case "required":
			m, ok := doc.(schema)
			for _, name := range arg.([]any) {
				if _, has := m[name.(string)]; ok && !has {
					err = fmt.Errorf("%s: %v is missing", path, name)
				}
			}
		case "propertyNames":
			m, _ := doc.(schema)
			for name := range m {
				if err := validate(root, arg.(schema), name, path+"/"+name); err != nil {
					return err
				}
			}
		case "properties":
		default:
			err = fmt.Errorf("%s: keyword %s is not understood here", path, k)
		}
		if err != nil {
			return err
		}
	}
	m, ok := doc.(schema)
	if !ok {
		return nil
	}
	props, _ := s["properties"].(schema)
	for name, v := range m {
		sub, known := props[name].(schema)
		if !known {
			switch rest := s["additionalProperties"].(type) {
			case bool:
				if !rest {
					return fmt.Errorf("%s/%s: no such field", path, name)
				}
				continue
			case schema:
				sub = rest
			default:
				continue
			}
		}
		if err := validate(root, sub, v, path+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

func isType(name string, doc any) bool {
	switch v := doc.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	case []any:
		return name == "array"
	case schema:
		return name == "object"
	}
	return false
}
