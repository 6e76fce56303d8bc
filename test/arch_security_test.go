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
