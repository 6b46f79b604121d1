package workload

import (
	"fmt"
	"strings"
)

// donjonKeys and enarxKeys are the valid keys of each table, for suggestions.
var donjonKeys = map[string][]string{
	"":          {"builtin", "steward", "steward_ca", "args", "env", "host_args", "host_env", "roles", "tee", "debug_log", "collateral", "limits", "files", "data", "scratch", "host_dirs", "secrets"},
	"limits":    {"memory", "cpu_time", "wall_time", "output"},
	"files":     {"kind", "name", "prot", "addr", "host", "port", "client_ca", "client_auth", "ca", "evidence", "attest", "max_age", "peer_header", "role"},
	"data":      {"path", "guest"},
	"scratch":   {"guest", "size"},
	"host_dirs": {"guest"},
	"secrets":   {"name", "env", "file"},
}

var enarxKeys = map[string][]string{
	"":      {"steward", "args", "env", "files"},
	"files": {"kind", "name", "prot", "addr", "host", "port"},
}

// neighbour is a hint about an unknown key: the valid one that is nearest, or all
// that are valid there.
func neighbour(key []string, keys map[string][]string) string {
	if len(key) == 0 {
		return ""
	}
	table, last := "", key[len(key)-1]
	if len(key) > 1 {
		table = key[0]
	}
	best, dist := "", 1<<30
	for _, k := range keys[table] {
		if d := distance(last, k); d < dist {
			best, dist = k, d
		}
	}
	if best == "" {
		return ""
	}
	if dist <= 1+len(best)/3 {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "valid keys here: " + strings.Join(keys[table], ", ")
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	if len(a) > 64 {
		return 1 << 20
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			prev, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, prev+cost)
		}
	}
	return row[len(b)]
}

// wanted says in TOML's words what a field of the raw forms takes.
func wanted(goType string) string {
	switch goType {
	case "string":
		return "a string"
	case "[]string":
		return "an array of strings"
	case "bool":
		return "true or false"
	case "int64":
		return "a whole number"
	case "map[string]string":
		return "a table of strings"
	}
	if strings.HasPrefix(goType, "[]") {
		return "an array of tables"
	}
	return "a table"
}

// mistyped puts the decoder's words about a value of the wrong type, which name
// fields of this program, into those of the file. Other words stay.
func mistyped(what string, key []string) string {
	rest, ok := strings.CutPrefix(what, "cannot decode TOML ")
	if !ok {
		return what
	}
	found, rest, ok := strings.Cut(rest, " into ")
	if !ok {
		return what
	}
	if _, goType, ok := strings.Cut(rest, " of type "); ok {
		rest = goType
	}
	article := "a "
	if strings.ContainsAny(found[:1], "aeiou") {
		article = "an "
	}
	what = "found " + article + found + ", wanted " + wanted(rest)
	if len(key) > 0 {
		what = strings.Join(key, ".") + ": " + what
	}
	return what
}
