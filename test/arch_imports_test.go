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

// room is one line of the import table of docs/ARCHITECTURE.md. The first room
// that a package fits decides.
type room struct {
	folder string
	// below takes the folders under folder as well.
	below bool
	// ours are the rooms of this repository that it may import besides itself and
	// what is below it; "*" is everything.
	ours []string
	// libraries, if not nil, are the only third-party modules it may import.
	libraries []string
	// banned are import prefixes that it must not have.
	banned []string
	// pure rooms have no clock, no goroutines, no randomness and no I/O.
	pure    bool
	because string
}

const (
	pureReason = "a pure room turns values into values, so that it can be replayed, tested without a server and reasoned about"
	ocmAPI     = "open-cluster-management.io/api"
	machinery  = "k8s.io/apimachinery"
	protobuf   = "google.golang.org/protobuf"
	runtimeLib = "sigs.k8s.io/controller-runtime"
)

func rooms() []room {
	faceReason := "a service is the face: it declares interfaces of 1-3 methods for what it needs and does not know the kitchen"
	trustReason := "enrollment, authorities and admission serve every face and every loop, so they know neither"
	linkReason := "transport does not know meaning: hand what arrives to a handler that agent/agent.go wires in"
	meaningReason := "meaning does not know transport: declare a small interface and let agent/agent.go wire it"
	loopReason := "controllers meet in the apiserver only; they must run without the RPC side and without each other"
	service := []string{"gen", "internal", "server/session", "server/rpc/authz", "server/rpc/rpcerr", "server/rpc/person"}
	return []room{
		{
			folder: "gen", below: true, ours: []string{"gen"}, libraries: []string{protobuf, "google.golang.org/grpc"},
			because: "generated code has no opinions of its own",
		},

		{folder: "internal/identity", below: true, libraries: []string{ocmAPI, machinery}, pure: true, because: pureReason},
		{
			folder: "internal/wire", below: true, ours: []string{"gen", "internal/identity"},
			libraries: []string{ocmAPI, machinery, protobuf}, pure: true, because: pureReason,
		},
		{
			folder: "internal/workrules", below: true, ours: []string{"internal/wire"},
			libraries: []string{ocmAPI, machinery}, pure: true, because: pureReason,
		},
		{
			folder: "server/session", below: true, ours: []string{"gen", "internal/wire", "internal/identity"},
			libraries: []string{ocmAPI, machinery, protobuf}, pure: true, because: pureReason,
		},
		{folder: "internal/clusterset", below: true, libraries: []string{ocmAPI, machinery}, pure: true, because: pureReason},
		{
			folder: "server/scheduling", below: true, ours: []string{"internal/clusterset"},
			libraries: []string{ocmAPI, machinery, "github.com/google/cel-go", "k8s.io/apiserver/pkg/cel/library"}, pure: true, because: pureReason,
		},
		{folder: "server/rollout", below: true, libraries: []string{ocmAPI, machinery}, pure: true, because: pureReason},

		{folder: "internal", below: true, ours: []string{"internal"}, because: "internal/ is shared by both sides and knows neither"},

		{folder: "server/rpc/agent", below: true, ours: service, because: faceReason},
		{folder: "server/rpc/admin", below: true, ours: service, because: faceReason},
		{folder: "server/rpc/scheduler", below: true, ours: service, because: faceReason},
		{folder: "server/rpc/addon", below: true, ours: service, because: faceReason},
		{
			folder: "server/rpc", below: true, ours: []string{"gen", "internal", "server/rpc/authz", "server/rpc/rpcerr", "server/rpc/interceptor"},
			because: "what all services share must not depend on one of them, nor on the kitchen",
		},
		{
			folder: "server/store", below: true, ours: []string{"internal"},
			because: "the store serves whoever asks: it knows neither the RPC face nor the controllers",
		},
		{folder: "server/enroll", below: true, ours: []string{"internal"}, because: trustReason},
		{folder: "server/ca", below: true, ours: []string{"internal"}, because: trustReason},
		{folder: "server/webhook", below: true, ours: []string{"internal"}, because: trustReason},
		{
			folder: "server/controller", ours: []string{"internal", "server/controller", "server/scheduling", "server/rollout"},
			because: "this package only lists the controllers",
		},
		{folder: "server/controller", below: true, ours: []string{"internal", "server/scheduling", "server/rollout"}, because: loopReason},
		{
			folder: "server/operator", below: true, ours: []string{"internal", "deploy"},
			because: "an operator installs from manifests; it must not run what it installs",
		},
		{folder: "server", ours: []string{"gen", "internal", "deploy", "server"}, because: "the root wires the hub's rooms and none of the agent's"},

		{folder: "agent/link", below: true, ours: []string{"gen", "internal"}, banned: []string{runtimeLib}, because: linkReason},
		{folder: "agent/enroll", below: true, ours: []string{"gen", "internal"}, banned: []string{runtimeLib}, because: linkReason},
		{folder: "agent/work", below: true, ours: []string{"internal"}, banned: []string{runtimeLib}, because: meaningReason},
		{folder: "agent/addon", below: true, ours: []string{"internal"}, banned: []string{runtimeLib}, because: meaningReason},
		{folder: "agent/cluster", below: true, ours: []string{"internal"}, banned: []string{runtimeLib}, because: meaningReason},
		{folder: "agent/store", below: true, ours: []string{"internal"}, banned: []string{runtimeLib}, because: meaningReason},
		{
			folder: "agent/operator", below: true, ours: []string{"internal", "deploy"},
			because: "an operator installs from manifests; it must not run what it installs",
		},
		{
			folder: "agent", ours: []string{"gen", "internal", "deploy", "agent"}, banned: []string{runtimeLib},
			because: "the root wires the agent's rooms and none of the hub's; its run path uses client-go only, to stay small at the edge",
		},

		{folder: "cmd/hub", below: true, ours: []string{"internal", "server"}, because: "the hub's main is flags, Config, Run of its own side"},
		{folder: "cmd/agent", below: true, ours: []string{"internal", "agent"}, because: "the agent's main is flags, Config, Run of its own side"},
		{
			folder: "cmd/fairlead", below: true, ours: []string{"gen", "internal", "deploy", "server/scheduling", "cmd/fairlead"},
			because: "the CLI is a client: it speaks to the hub over its API",
		},
		{folder: "cmd/devplane", below: true, because: "devplane is Kubernetes and a module of its own; nothing of ours belongs into it"},
		{folder: "deploy/examples", below: true, ours: []string{"gen"}, because: "an example is what somebody else would write: it has the API and nothing else of ours"},
		{folder: "deploy", below: true, because: "deploy is files in, bytes out"},
		{folder: "test", below: true, ours: []string{"*"}, because: "tests may use everything"},
	}
}

func (r room) fits(folder string) bool {
	return folder == r.folder || (r.below && inside(folder, r.folder))
}

// mayImport tells whether a package in folder may import imported.
func (r room) mayImport(folder, imported string) bool {
	for _, banned := range r.banned {
		if inside(imported, banned) {
			return false
		}
	}
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		within := func(allowed string) bool { return allowed == "*" || inside(ours, allowed) }
		return inside(ours, r.own(folder)) || slices.ContainsFunc(r.ours, within)
	}
	standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
	if standard || r.libraries == nil {
		return true
	}
	return !inside(imported, ocmAPI+"/client") &&
		slices.ContainsFunc(r.libraries, func(library string) bool { return inside(imported, library) })
}

// own is the part of the house that the package shares with its neighbours:
// for controllers and what all services share, one folder below the room.
func (r room) own(folder string) string {
	if r.folder != "server/controller" && r.folder != "server/rpc" {
		return r.folder
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(folder, r.folder+"/"), "/")
	return r.folder + "/" + first
}

func TestImports(t *testing.T) {
	fset, files := sources(t, func(s source) bool { return !s.test })
	table := rooms()
	for _, s := range files {
		i := slices.IndexFunc(table, func(r room) bool { return r.fits(s.room) })
		if i < 0 {
			t.Errorf("%s: the import table has no room %q; give it a line in docs/ARCHITECTURE.md and in test/arch_imports_test.go", s.path, s.room)
			continue
		}
		for _, spec := range s.file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if !table[i].mayImport(s.room, imported) {
				t.Errorf("%s: room %q must not import %q: %s", fset.Position(spec.Pos()), table[i].folder, imported, table[i].because)
			}
		}
	}
}

func TestImports_banned_everywhere(t *testing.T) {
	banned := map[string]string{
		"google.golang.org/grpc/encoding/gzip": "gzip costs a writer of its own per stream; payloads are zstd, per object (internal/codec)",
		"github.com/golang/protobuf":           "it is the old API; use google.golang.org/protobuf",
		"github.com/pkg/errors":                "use fmt.Errorf with %w",
		"k8s.io/kubernetes":                    "it is not a library; cmd/devplane alone may link it",
		"io/ioutil":                            "it is superseded by io and os",
	}
	fset, files := sources(t, func(s source) bool { return !inside(s.room, "cmd/devplane") })
	for _, s := range files {
		for _, spec := range s.file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			for path, why := range banned {
				if inside(imported, path) {
					t.Errorf("%s: %q is banned: %s", fset.Position(spec.Pos()), imported, why)
				}
			}
		}
	}
}

// Packages of test helpers, such as server/rpc/rpctest, are for tests.
func TestImports_helpers_of_tests(t *testing.T) {
	fset, files := sources(t, func(s source) bool { return !s.test && !inside(s.room, "test") && !strings.HasSuffix(s.room, "test") })
	for _, s := range files {
		for _, imported := range s.imports() {
			ours := strings.HasPrefix(imported, module)
			if imported == "testing" || (ours && strings.HasSuffix(imported, "test")) || strings.HasPrefix(imported, "github.com/stretchr/testify") {
				t.Errorf("%s imports %q: what runs in production must not carry test helpers; move the code to a _test.go file or to test/",
					fset.Position(s.file.Package), imported)
			}
		}
	}
}

func TestPure_rooms_have_no_effects(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep"}
	effects := []string{"os", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog"}
	table := rooms()
	fset, files := sources(t, production)
	for _, s := range files {
		i := slices.IndexFunc(table, func(r room) bool { return r.fits(s.room) })
		if i < 0 || !table[i].pure {
			continue
		}
		for _, spec := range s.file.Imports {
			if imported := strings.Trim(spec.Path.Value, `"`); slices.Contains(effects, imported) {
				t.Errorf("%s: a pure room must not import %q; pass the value in. %s", fset.Position(spec.Pos()), imported, pureReason)
			}
		}
		calls(s, func(pkg, function string, at token.Pos) {
			if pkg == "time" && slices.Contains(clock, function) {
				t.Errorf("%s: time.%s in a pure room; pass the time in. %s", fset.Position(at), function, pureReason)
			}
		})
		ast.Inspect(s.file, func(n ast.Node) bool {
			if statement, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a go statement in a pure room; let the caller run it. %s", fset.Position(statement.Pos()), pureReason)
			}
			return true
		})
	}
}

// Below the RPC face errors are plain Go errors; the face alone turns them into
// gRPC statuses, through one helper that logs once and hides internals.
func TestStatus_errors_are_made_by_the_face(t *testing.T) {
	made := []string{"Error", "Errorf", "New", "Newf", "ErrorProto", "FromProto"}
	fset, files := sources(t, func(s source) bool { return production(s) && !inside(s.room, "server/rpc") && !inside(s.room, "test") })
	for _, s := range files {
		calls(s, func(pkg, function string, at token.Pos) {
			if pkg == "google.golang.org/grpc/status" && slices.Contains(made, function) {
				t.Errorf("%s: status.%s outside server/rpc; return an error with %%w and a sentinel, and let server/rpc/rpcerr make the status",
					fset.Position(at), function)
			}
		})
	}
}
