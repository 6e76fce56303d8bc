// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rules themselves, on sources made for them.

func parse(t *testing.T, text string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", text, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	return file
}

func TestRules_of_imports(t *testing.T) {
	tests := map[string]struct {
		reason, folder, imported string
		allowed                  bool
	}{
		"service and store":        {"the face does not know the kitchen", "server/rpc/agent", module + "/server/store", false},
		"service and sibling":      {"services are strangers", "server/rpc/agent", module + "/server/rpc/admin", false},
		"service and core":         {"the core is for services", "server/rpc/agent", module + "/server/session", true},
		"service and its own":      {"a room may have inner rooms", "server/rpc/agent/x", module + "/server/rpc/agent/y", true},
		"service and library":      {"libraries are free", "server/rpc/agent", "google.golang.org/grpc", true},
		"core and grpc":            {"pure", "server/session", "google.golang.org/grpc", false},
		"core and wire":            {"pure to pure", "server/session", module + "/internal/wire", true},
		"core and OCM types":       {"types are values", "server/rollout", "open-cluster-management.io/api/cluster/v1", true},
		"core and OCM clients":     {"clients are not", "server/rollout", "open-cluster-management.io/api/client/cluster/clientset/versioned", false},
		"controller and sibling":   {"they meet in the apiserver", "server/controller/work", module + "/server/controller/lease", false},
		"controller and its own":   {"inner rooms", "server/controller/work", module + "/server/controller/work/x", true},
		"controllers' list":        {"it lists them all", "server/controller", module + "/server/controller/lease", true},
		"agent and server":         {"two sides", "agent", module + "/server/session", false},
		"meaning and transport":    {"meaning knows no transport", "agent/work/apply", module + "/agent/link", false},
		"meaning and wire types":   {"meaning knows no transport", "agent/work", module + "/gen/fairlead/agent/v1", false},
		"transport and meaning":    {"transport knows no meaning", "agent/link", module + "/agent/work", false},
		"agent and runtime":        {"small at the edge", "agent/work", "sigs.k8s.io/controller-runtime/pkg/client", false},
		"spoke operator":           {"operators may", "agent/operator", "sigs.k8s.io/controller-runtime/pkg/client", true},
		"shared and side":          {"shared rooms know no side", "internal/kube", module + "/server", false},
		"production and test":      {"nothing imports test", "server", module + "/test/env", false},
		"CLI and explain":          {"it explains placements", "cmd/fairlead/work", module + "/server/scheduling", true},
		"CLI and server":           {"it is a client", "cmd/fairlead/work", module + "/server/store", false},
		"devplane and ours":        {"its own module", "cmd/devplane", module + "/internal/kube", false},
		"a name that begins alike": {"folders, not prefixes", "server/rpc/agent", module + "/server/sessions", false},
	}
	table := rooms()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(table, func(r room) bool { return r.fits(test.folder) })
			require.GreaterOrEqual(t, i, 0)
			require.Equal(t, test.allowed, table[i].mayImport(test.folder, test.imported), test.reason)
		})
	}
}

func TestRules_of_size(t *testing.T) {
	tests := map[string]struct {
		reason              string
		body                string
		complexity, nesting int
	}{
		"straight":   {"nothing to choose", `x := 1; _ = x`, 1, 0},
		"conditions": {"each operand is a way", `if a && b || c { }`, 4, 1},
		"else-if":    {"a chain is flat", `if a { } else if b { } else if c { } else { d() }`, 4, 1},
		"loops":      {"blocks add up", `for { for range xs { if a { switch { case b: } } } }`, 5, 4},
		"select":     {"default is no way of its own", `select { case <-c: default: }`, 2, 1},
		"literal":    {"it begins anew but its ways count", `if a { f(func() { if b { } }) }`, 3, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := parse(t, "package x\nfunc f() {"+test.body+"}")
			f, ok := file.Decls[0].(*ast.FuncDecl)
			require.True(t, ok)
			require.Equal(t, test.complexity, complexity(f.Body), test.reason)
			require.Equal(t, test.nesting, nesting(f.Body), test.reason)
		})
	}
}

func TestRules_of_docs(t *testing.T) {
	file := parse(t, `package x

func Bare() {}

// Said is documented.
func Said() {}

func (t *hidden) Method() {}
func (t Shown[K]) Method() {}

const A, b = 1, 2

// A group.
const (
	C = 1
	D = 2
)

type (
	Type struct{}
	// Other is documented.
	Other struct{}
	own   struct{}
)
`)
	var found []string
	for _, declaration := range file.Decls {
		found = append(found, undocumented(declaration)...)
	}
	require.Equal(t, []string{"Bare", "Shown.Method", "A", "Type"}, found)
}

func TestRules_of_calls(t *testing.T) {
	file := parse(t, `package x
import (
	clock "time"
	"k8s.io/api/core/v1"
	"math/rand/v2"
)
func f() { clock.Sleep(1); rand.Int(); local.Sleep(1); _ = v1.Pod{} }
`)
	var found []string
	calls(source{file: file}, func(pkg, function string, _ token.Pos) { found = append(found, pkg+"."+function) })
	require.Equal(t, []string{"time.Sleep", "math/rand/v2.Int"}, found)
}

func TestRules_of_goroutines(t *testing.T) {
	for name, test := range map[string]struct {
		reason, text  string
		starts, looks bool
	}{
		"pure":         {"nothing runs", `func f() { g.Go = 1; time.After(1) }`, false, false},
		"bare":         {"a statement", `func f() { go g() }`, true, false},
		"group":        {"whichever it is", `func f() { group.Go(g) }`, true, false},
		"timer":        {"it calls from a goroutine of its own", `func f() { time.AfterFunc(1, g) }`, true, false},
		"import":       {"a server does", `import "net/http/httptest"`, true, false},
		"main":         {"it looks", `import "go.uber.org/goleak"; func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }`, false, true},
		"main, plane":  {"the plane ends before", `import "fairlead.dev/fairlead/test/env"; func TestMain(m *testing.M) { env.Main(m, env.Options{}) }`, true, true},
		"main, blind":  {"it must", `import "go.uber.org/goleak"; func TestMain(m *testing.M) { m.Run() }; func f() { goleak.VerifyTestMain(nil) }`, false, false},
		"main, method": {"that is another", `import "go.uber.org/goleak"; func (x) TestMain(m *testing.M) { goleak.VerifyTestMain(m) }`, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := source{file: parse(t, "package x\n"+test.text)}
			how, _ := startsGoroutines(s)
			require.Equal(t, test.starts, how != "", "%s: %s", test.reason, how)
			require.Equal(t, test.looks, looksForLeaks(s), test.reason)
		})
	}
}

func TestRules_of_sleep(t *testing.T) {
	for body, want := range map[string]int{
		`<-time.After(1)`:                  1,
		`<-timer.C`:                        1,
		`select { case <-time.After(1): }`: 1,
		`select { case <-done: case <-time.After(1): }`:               1,
		`select { case <-done: case <-time.After(1): fail() }`:        0,
		`select { case <-done: case <-ticker.C: }`:                    0,
		`<-done; <-other.After(1); limit := time.After(1); _ = limit`: 0,
	} {
		s := source{file: parse(t, "package x\nimport \"time\"\nfunc f() {"+body+"}")}
		require.Len(t, naps(s), want, body)
		require.True(t, realTime(s))
	}
	require.False(t, realTime(source{file: parse(t, `package x; import "testing/synctest"`)}), "a bubble's time is its own")
}

func TestRules_of_nolint(t *testing.T) {
	for comment, want := range map[string]bool{
		"//nolint":                             false,
		"//nolint:gosec":                       false,
		"//nolint:gosec // the file is public": true,
		"// nolint:gosec // no space allowed":  false,
	} {
		require.True(t, nolint.MatchString(comment), comment)
		require.Equal(t, want, goodNolint.MatchString(comment), comment)
	}
}
