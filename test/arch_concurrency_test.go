// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// A test binary in which goroutines start ends with a look for those that are
// left. A leak in a test is one in production, or makes the next test see what
// this one did.
func TestConcurrency_leaks_are_looked_for(t *testing.T) {
	allowed := map[string]string{
		"cmd/devplane": "its one goroutine lives as long as the process, and no test of it starts that",
	}
	type room struct {
		starts        string // where and how it starts goroutines
		tested, looks bool
	}
	fset, files := sources(t, handwritten)
	rooms := map[string]*room{}
	for _, s := range files {
		r := rooms[s.room]
		if r == nil {
			r = &room{}
			rooms[s.room] = r
		}
		r.tested = r.tested || s.test
		r.looks = r.looks || looksForLeaks(s)
		if how, at := startsGoroutines(s); how != "" && r.starts == "" {
			r.starts = fset.Position(at).String() + ": " + how
		}
	}
	for name, r := range rooms {
		if allowed[name] == "" && r.tested && r.starts != "" && !r.looks {
			t.Errorf("%s starts goroutines (%s), so its tests need func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }, or env.Main when they use a plane", name, r.starts)
		}
	}
}

// starters are packages that are not used without goroutines, theirs or ours.
func starters() []string {
	return []string{
		"google.golang.org/grpc", "net/http/httptest", "golang.org/x/sync/errgroup",
		"k8s.io/client-go/dynamic", "k8s.io/client-go/informers", "k8s.io/client-go/kubernetes", "k8s.io/client-go/metadata",
		"k8s.io/client-go/tools/cache", "k8s.io/client-go/util/workqueue",
		"sigs.k8s.io/controller-runtime", "sigs.k8s.io/controller-runtime/pkg/client", "sigs.k8s.io/controller-runtime/pkg/manager",
		module + "/test/env", module + "/test/house",
	}
}

// startsGoroutines tells how a file starts goroutines, and where; "" when it
// does not. The functions of other rooms of ours that do so are not seen: those
// rooms have tests of their own.
func startsGoroutines(s source) (how string, at token.Pos) {
	for _, spec := range s.file.Imports {
		if imported := strings.Trim(spec.Path.Value, `"`); slices.Contains(starters(), imported) {
			return "imports " + imported, spec.Pos()
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			how, at = "go statement", n.Pos()
		case *ast.CallExpr:
			if called, ok := n.Fun.(*ast.SelectorExpr); ok && (called.Sel.Name == "Go" || called.Sel.Name == "AfterFunc") {
				how, at = "call of "+called.Sel.Name, n.Pos()
			}
		}
		return how == ""
	})
	return how, at
}

// looksForLeaks tells whether the file has a TestMain that ends with goleak. In
// test/env itself, Main is not imported.
func looksForLeaks(s source) bool {
	i := slices.IndexFunc(s.file.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Recv == nil && f.Name.Name == "TestMain"
	})
	if i < 0 {
		return false
	}
	looks := false
	body := s
	body.file = &ast.File{Name: s.file.Name, Imports: s.file.Imports, Decls: s.file.Decls[i : i+1]}
	calls(body, func(pkg, function string, _ token.Pos) {
		switch pkg + "." + function {
		case "go.uber.org/goleak.VerifyTestMain", module + "/test/env.Main", module + "/test/env.Verify":
			looks = true
		}
	})
	if s.room != "test/env" {
		return looks
	}
	ast.Inspect(s.file.Decls[i], func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if ok {
			own, _ := call.Fun.(*ast.Ident)
			looks = looks || own != nil && own.Name == "Main"
		}
		return true
	})
	return looks
}

// realTime tells that a file's clock is the world's: in synctest's bubbles time
// passes by sleeping, and at once.
func realTime(s source) bool { return !slices.Contains(s.imports(), "testing/synctest") }

// A test that waits for time to pass is slow where machines are fast, and fails
// where they are slow. Waiting for something with a limit is right: then the
// case of the limit says what went wrong. Production may: it backs off.
func TestConcurrency_nobody_sleeps_by_timer(t *testing.T) {
	allowed := map[string]string{
		"test/integration/hub/certificates_test.go": "in a soak, since one source may enroll five times a minute",
		"test/integration/network/world_test.go":    "in a soak, faults last as long as their threats say",
		"test/sim/agenda.go":                        "it makes virtual time pass",
	}
	fset, files := sources(t, func(s source) bool { return (s.test || inside(s.room, "test")) && realTime(s) })
	for _, s := range files {
		for _, at := range naps(s) {
			if allowed[s.path] == "" {
				t.Errorf("%s: waits for time to pass: wait for the event itself, or fail when it has not come", fset.Position(at))
			}
		}
	}
}

// naps are where a file waits for time to pass, whatever happens: it receives
// from time.After or a timer outside a select, or from time.After in a case that
// does nothing.
func naps(s source) []token.Pos {
	after := map[token.Pos]bool{}
	calls(s, func(pkg, function string, at token.Pos) { after[at] = pkg == "time" && function == "After" })
	cases := map[ast.Stmt]*ast.CommClause{}
	var found []token.Pos
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CommClause:
			cases[n.Comm] = n
		case *ast.ExprStmt:
			receive, ok := n.X.(*ast.UnaryExpr)
			if !ok || receive.Op != token.ARROW {
				return true
			}
			clause := cases[n]
			switch from := receive.X.(type) {
			case *ast.CallExpr:
				ok = after[from.Fun.Pos()] && (clause == nil || len(clause.Body) == 0)
			case *ast.SelectorExpr:
				ok = from.Sel.Name == "C" && clause == nil
			default:
				ok = false
			}
			if ok {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}
