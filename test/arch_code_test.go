// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"go/ast"
	"go/format"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

const licence = "// Copyright The Fairlead Authors.\n// SPDX-License-Identifier: Apache-2.0\n\n"

func TestCode_licence_header(t *testing.T) {
	_, files := sources(t, handwritten)
	for _, s := range files {
		if !strings.HasPrefix(string(s.text), licence) {
			t.Errorf("%s does not begin with the licence header:\n%s", s.path, licence)
		}
	}
}

func TestCode_is_formatted(t *testing.T) {
	_, files := sources(t, handwritten)
	for _, s := range files {
		formatted, err := format.Source(s.text)
		if err != nil || string(formatted) != string(s.text) {
			t.Errorf("%s is not formatted: run gofmt -w %s", s.path, s.path)
		}
	}
}

// Goroutines start where somebody waits for them: an errgroup, a WaitGroup.Go, a
// Run list. The exceptions are listed with their reason.
func TestCode_has_no_bare_go_statements(t *testing.T) {
	allowed := map[string]string{
		"cmd/devplane/parent.go": "watches standard input for the whole life of the process",
	}
	fset, files := sources(t, production)
	for _, s := range files {
		if allowed[s.path] != "" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if statement, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a bare go statement; start it in a group that is waited for (errgroup.Group.Go, sync.WaitGroup.Go)", fset.Position(statement.Pos()))
			}
			return true
		})
	}
}

func TestCode_has_no_init(t *testing.T) {
	fset, files := sources(t, handwritten)
	for _, s := range files {
		for _, declaration := range s.file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init() runs behind the reader's back; do it in New or main", fset.Position(f.Pos()))
			}
		}
	}
}

// A package-level variable without a value is there to be changed later.
func TestCode_has_no_mutable_package_state(t *testing.T) {
	allowed := map[string]string{
		"test/env/testing.go shared": "TestMain has no other way to hand the plane to tests",
	}
	fset, files := sources(t, production)
	for _, s := range files {
		for _, declaration := range s.file.Decls {
			d, ok := declaration.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR || strings.Contains(d.Doc.Text()+comments(d), "go:embed") {
				continue
			}
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if ok && len(v.Values) == 0 && allowed[s.path+" "+v.Names[0].Name] == "" {
					t.Errorf("%s: %s is package-level state; make it a field of what New returns", fset.Position(v.Pos()), v.Names[0].Name)
				}
			}
		}
	}
}

// comments is the raw text of a declaration's comment, directives included.
func comments(d *ast.GenDecl) string {
	var text strings.Builder
	groups := []*ast.CommentGroup{d.Doc}
	for _, spec := range d.Specs {
		if v, ok := spec.(*ast.ValueSpec); ok {
			groups = append(groups, v.Doc)
		}
	}
	for _, group := range groups {
		if group == nil {
			continue
		}
		for _, comment := range group.List {
			text.WriteString(comment.Text)
		}
	}
	return text.String()
}

func TestCode_calls_that_are_never_right(t *testing.T) {
	type ban struct {
		why     string
		applies func(source) bool
	}
	always := func(source) bool { return true }
	bans := map[string]ban{
		"context.TODO": {"pass the caller's context", always},
		"time.Sleep":   {"wait for the event itself: a channel, a timer with the context, require.Eventually, a synctest bubble", realTime},
		"time.Tick":    {"take a time.Ticker in a loop that can end", realTime},
		"log.Fatal":    {"return the error to main", always},
		"log.Fatalf":   {"return the error to main", always},
		"log.Printf":   {"log with log/slog", always},
		"log.Println":  {"log with log/slog", always},
	}
	for _, never := range []string{"Never", "Neverf"} {
		for _, pkg := range []string{"require", "assert"} {
			bans["github.com/stretchr/testify/"+pkg+"."+never] = ban{"it sleeps: wait for what shows that it will not happen any more, then look", realTime}
		}
	}
	fset, files := sources(t, handwritten)
	for _, s := range files {
		calls(s, func(pkg, function string, at token.Pos) {
			if b, banned := bans[pkg+"."+function]; banned && b.applies(s) {
				t.Errorf("%s: %s.%s: %s", fset.Position(at), pkg, function, b.why)
			}
		})
	}
}

func TestCode_tests_are_never_skipped(t *testing.T) {
	fset, files := sources(t, func(s source) bool { return s.test })
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok || (selector.Sel.Name != "Skip" && selector.Sel.Name != "Skipf" && selector.Sel.Name != "SkipNow") {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && (x.Name == "t" || x.Name == "b" || x.Name == "tb") {
				t.Errorf("%s: a skipped test shows nothing; make what it needs in the test, or delete it", fset.Position(n.Pos()))
			}
			return true
		})
	}
}

var (
	unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	nolint     = regexp.MustCompile(`^//\s*nolint`)
	goodNolint = regexp.MustCompile(`^//nolint:[a-z0-9,]+ // \S+`)
)

func TestCode_comments(t *testing.T) {
	fset, files := sources(t, handwritten)
	for _, s := range files {
		for _, group := range s.file.Comments {
			for _, comment := range group.List {
				at := fset.Position(comment.Pos())
				if found := unfinished.FindString(comment.Text); found != "" && !inside(s.room, "test") {
					t.Errorf("%s: %s: do it now, or file an issue", at, found)
				}
				if nolint.MatchString(comment.Text) && !goodNolint.MatchString(comment.Text) {
					t.Errorf("%s: name the linter and the reason: //nolint:name // reason", at)
				}
			}
		}
	}
}
