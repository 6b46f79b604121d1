package verdict_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// schemaOf makes the schema of a struct type, with one definition a struct.
func schemaOf(t reflect.Type) schema {
	defs := schema{}
	out := object(t, defs)
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	out["$id"] = "https://github.com/donjon-tee/donjon/docs/verdict.schema.json"
	out["title"] = "Donjon verdict"
	out["$defs"] = defs
	return out
}

func object(t reflect.Type, defs schema) schema {
	props, required := schema{}, []string{}
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, opts, _ := strings.Cut(tag, ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" || f.Anonymous {
			panic(t.String() + "." + f.Name + " has no JSON name")
		}
		s := typeSchema(f.Type, defs)
		optional := strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")
		switch k := f.Type.Kind(); {
		case !optional:
			required = append(required, name)
			if (k == reflect.Slice || k == reflect.Map) && !marshals(f.Type) { // nil is written as null
				s["type"] = []any{s["type"], "null"}
			}
		}
		switch {
		case t == reflect.TypeFor[verdict.Verdict]() && name == "exit_status":
			s = schema{"enum": []int{0, 10, 11, 12}}
		case t == reflect.TypeFor[verdict.Advisory]() && name == "state":
			s = schema{"enum": []string{"fixed", "exposed", "cannot_tell"}}
		}
		props[name] = s
	}
	slices.Sort(required)
	out := schema{"type": "object", "properties": props, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func marshals(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t == reflect.TypeFor[claims.Hex]()
}

func typeSchema(t reflect.Type, defs schema) schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case reflect.TypeFor[claims.Hex]():
		return schema{"type": "string", "pattern": "^([0-9a-f]{2})*$"}
	case reflect.TypeFor[claims.SVNs]():
		return schema{"type": "array", "items": schema{"type": "integer", "minimum": 0, "maximum": 255}}
	case reflect.TypeFor[verdict.Outcome]():
		return schema{"enum": []verdict.Outcome{verdict.Admitted, verdict.NotGenuine, verdict.Refused, verdict.CannotTell}}
	case reflect.TypeFor[verdict.Status]():
		return schema{"enum": []verdict.Status{verdict.Passed, verdict.Failed, verdict.NotMade}}
	case reflect.TypeFor[verdict.Code](): // more codes will come: docs/verdicts.md lists them
		return schema{"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), defs)
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return schema{"type": "integer", "minimum": 0, "maximum": int64(1)<<t.Bits() - 1}
	case reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Interface:
		return schema{}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			panic("bytes print as base64: use claims.Hex or claims.SVNs")
		}
		return schema{"type": "array", "items": typeSchema(t.Elem(), defs)}
	case reflect.Array:
		return schema{"type": "array", "items": typeSchema(t.Elem(), defs), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		name := schema{"type": "string"}
		if t.Key().Kind() == reflect.Int {
			name = schema{"pattern": "^(0|[1-9][0-9]*)$"}
		}
		return schema{"type": "object", "propertyNames": name, "additionalProperties": typeSchema(t.Elem(), defs)}
	case reflect.Struct:
		if _, ok := defs[t.Name()]; !ok {
			defs[t.Name()] = nil // a type that holds itself
			defs[t.Name()] = object(t, defs)
		}
		return schema{"$ref": "#/$defs/" + t.Name()}
	}
	panic("no schema for " + t.String())
}
