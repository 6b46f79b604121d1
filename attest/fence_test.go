package attest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The library depends on nothing else in the house, does no I/O of its own accord,
// reads no clock, and keeps no state outside its values. Three are there to do I/O: fetch,
// atls, and published, which is for tests alone: nothing but tests imports it. atls is in
// the measured program too, which has no place for net/http.
func TestFence(t *testing.T) {
	const house = "github.com/donjon-tee/donjon/"
	denied := map[string]bool{"os": true, "os/exec": true, "net": true, "net/http": true, "io/ioutil": true, "syscall": true, "unsafe": true,
		"path/filepath": true, "log": true, "log/slog": true, "math/rand": true, "math/rand/v2": true, "flag": true}
	modules := map[string]bool{"github.com/fxamacker/cbor/v2": true, "github.com/pelletier/go-toml/v2": true}
	n := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "testdata" {
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		connections := strings.HasPrefix(path, "atls")
		io := strings.HasPrefix(path, filepath.Join("collateral", "fetch")) || strings.HasPrefix(path, "published") || connections
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		n++
		for _, i := range file.Imports {
			p := strings.Trim(i.Path.Value, `"`)
			switch {
			case strings.HasPrefix(p, house) && !strings.HasPrefix(p, house+"attest/") && (p != house+"attest" || !connections):
				t.Errorf("%s imports %s, of the rest of the house", path, p)
			case p == house+"attest/published":
				t.Errorf("%s imports %s, which is for tests", path, p)
			case strings.HasPrefix(p, house):
			case strings.Contains(strings.SplitN(p, "/", 2)[0], ".") && !modules[p]:
				t.Errorf("%s imports %s, which is not in the list", path, p)
			case denied[p] && (!io || connections && p != "net"):
				t.Errorf("%s imports %s", path, p)
			}
		}
		ast.Inspect(file, func(x ast.Node) bool {
			if f, ok := x.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s does work in init", path)
			}
			s, ok := x.(*ast.SelectorExpr)
			if !ok || io {
				return true
			}
			if p, ok := s.X.(*ast.Ident); ok && p.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Since" || s.Sel.Name == "Until") {
				t.Errorf("%s reads the clock: time.%s", path, s.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil || n < 20 {
		t.Fatalf("looked at %d files: %v", n, err)
	}
}
