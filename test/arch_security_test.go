// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPromisesAreHeld: every test that docs/security.md names exists, and every row
// of its promises names one.
func TestPromisesAreHeld(t *testing.T) {
	root := ".."
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	require.NoError(t, err)
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
		return nil
	}))
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	_, promises, found := strings.Cut(string(page), "## Promises\n")
	require.True(t, found)
	held := 0
	for line := range strings.Lines(promises) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Promise") {
			continue
		}
		require.Regexp(t, name, line, "a promise needs its test")
		held++
	}
	require.Greater(t, held, 10)
	for _, m := range name.FindAllStringSubmatch(string(page), -1) {
		require.True(t, tests[m[1]], "docs/security.md names %s, which does not exist", m[1])
	}
}

// TestT81_hub_has_no_way_to_a_spoke: the hub's own code names nothing that opens a
// connection, but to other replicas of the hub; what it makes of a rest.Config goes to
// its apiserver, and no config but its own can be read: «hub serve» has one kubeconfig.
// That holds for connections too short to be seen in a trace.
func TestT81_hub_has_no_way_to_a_spoke(t *testing.T) {
	doors := map[string][]string{
		"net":                    {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialUnix", "DialIP", "Dialer"},
		"crypto/tls":             {"Dial", "DialWithDialer", "Dialer", "Client"},
		"google.golang.org/grpc": {"NewClient", "Dial", "DialContext"},
		"net/http":               {"Get", "Head", "Post", "PostForm", "Client", "DefaultClient", "Transport", "DefaultTransport"},
		"k8s.io/client-go/tools/clientcmd": {
			"BuildConfigFromFlags", "BuildConfigFromKubeconfigGetter", "RESTConfigFromKubeConfig", "NewClientConfigFromBytes", "Load", "LoadFromFile", "NewDefaultClientConfig",
		},
	}
	opened := map[string]bool{}
	allowed := map[string]string{
		"server/peers.go NewClient":                       "other replicas of the hub",
		"server/controller/registration/follow.go Client": "a parameter: the manager's, to its apiserver",
	}
	fset, files := sources(t, production)
	for _, s := range files {
		if !inside(s.room, "server") && !inside(s.room, "cmd/hub") || s.room == "server/rpc/rpctest" {
			continue
		}
		for _, imported := range s.imports() {
			require.NotEqual(t, module+"/internal/dialer", imported, "%s: that is how agents reach their hub", s.path)
		}
		calls(s, func(pkg, name string, at token.Pos) {
			if !slices.Contains(doors[pkg], name) {
				return
			}
			opened[s.path+" "+name] = true
			if allowed[s.path+" "+name] == "" {
				t.Errorf("%s: %s.%s: the hub opens no connection but to its apiserver and its own replicas", fset.Position(at), pkg, name)
			}
		})
	}
	for door := range allowed {
		require.True(t, opened[door], "the rule sees what there is: %s", door)
	}
}
