// Package arch enforces the order of the house: who may import whom (design.md
// section 2). It reads the source of every package; nothing is run.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/smtpwall/smtpwall/"
	root   = "../.."
)

// levels are the packages of pkg/. A package imports only lower levels.
var levels = map[string]int{
	"wire": 0, "smtp": 0, "static": 0, "nlmsg": 0,
	"flow": 1, "policy": 1, "stream": 1,
	"engine": 2, "asa": 2,
	"audit": 3,
	"nfq":   4, "ctnl": 4, "nftset": 4, "capture": 4, "syslog": 4, "control": 4, "metrics": 4,
	"daemon": 5,
	"lab":    6,
}

// pureLevels hold no I/O, clock, goroutine or log.
const pureLevels = 3

// impure are the imports that a pure package must not have, but for the parts of
// the standard library below them that are values only.
var impure = []string{"os", "net", "syscall", "log", "io/ioutil", "math/rand", "golang.org/x/sys", "github.com/sirupsen/logrus", "runtime", "sync"}

// alone are imports that belong to one package.
var alone = map[string]string{
	"github.com/google/gopacket/tcpassembly": "stream",
	"github.com/florianl/go-nfqueue/v2":      "nfq",
	"github.com/ti-mo/conntrack":             "ctnl",
}

// file is a source file of a package of pkg/.
type file struct {
	pkg, path string
	ast       *ast.File
}

// sources returns the files of pkg/ that are no tests.
func sources(t *testing.T) (files []file) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, "pkg"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(filepath.Join(root, "pkg"), filepath.Dir(path))
		files = append(files, file{filepath.ToSlash(rel), path, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImportOrder(t *testing.T) {
	for _, f := range sources(t) {
		level, ok := levels[f.pkg]
		if !ok {
			t.Errorf("%s: package %s has no level: add it to the list in test/arch and to design.md", f.path, f.pkg)
			continue
		}
		for _, spec := range f.ast.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			for _, fault := range faults(f.pkg, level, path) {
				t.Errorf("%s imports %s: %s", f.path, path, fault)
			}
		}
	}
}

// faults says what is wrong with an import of a package of that level.
func faults(pkg string, level int, path string) (faults []string) {
	if own, ok := strings.CutPrefix(path, module+"pkg/"); ok {
		if other, known := levels[own]; known && other >= level {
			faults = append(faults, "level "+strconv.Itoa(other)+" is not below level "+strconv.Itoa(level))
		}
	} else if strings.HasPrefix(path, module) {
		faults = append(faults, "pkg/ imports nothing of the module but pkg/")
	}
	if only, ok := alone[path]; ok && only != pkg {
		faults = append(faults, "only pkg/"+only+" may")
	}
	if level <= pureLevels && slices.ContainsFunc(impure, func(bad string) bool {
		return path == bad || strings.HasPrefix(path, bad+"/") && path != "net/netip"
	}) {
		faults = append(faults, "levels 0 to 3 are pure")
	}
	return faults
}

func TestPureLevelsHaveNoClockOrGoroutine(t *testing.T) {
	for _, f := range sources(t) {
		if levels[f.pkg] > pureLevels {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", f.path)
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "Tick"}, n.Sel.Name) {
					t.Errorf("%s uses time.%s", f.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

// The rules themselves: each must refuse what it is for.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		pkg, path string
		bad       bool
	}{
		{"smtp", module + "pkg/wire", true}, // sideways
		{"flow", module + "pkg/engine", true},
		{"engine", module + "pkg/flow", false},
		{"engine", "net/netip", false},
		{"engine", "net", true},
		{"engine", "net/http", true},
		{"engine", "github.com/google/gopacket/tcpassembly", true},
		{"stream", "github.com/google/gopacket/tcpassembly", false},
		{"audit", "os", true},
		{"nfq", "os", false},
		{"daemon", module + "cmd/smtpwall", true},
	} {
		if got := faults(c.pkg, levels[c.pkg], c.path); (len(got) > 0) != c.bad {
			t.Errorf("%s imports %s: faults %v, want fault %v", c.pkg, c.path, got, c.bad)
		}
	}
}
