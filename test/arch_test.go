// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package test holds the rules of the house as tests: who may import whom, how
// large things may grow, that everything is documented, and how the repository
// is kept. They read the sources with go/parser only, so they take a second and
// work while packages do not compile. Each failure says what to do.
package test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	root   = ".." // the repository, seen from this package
	module = "fairlead.dev/fairlead"
)

// source is one parsed Go file.
type source struct {
	path      string // from the repository's root, with slashes
	room      string // its folder
	text      []byte
	file      *ast.File
	lines     int
	test      bool // *_test.go
	generated bool
}

// imports lists what the file imports directly.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, imported)
		}
	}
	return paths
}

// house is every Go file of the repository, both modules.
type house struct {
	fset  *token.FileSet
	files []source
	err   error
}

var readHouse = sync.OnceValue(func() house {
	h := house{fset: token.NewFileSet()}
	h.err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped(name, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return h.add(name)
	})
	return h
})

func skipped(name, base string) bool {
	return base == "testdata" || base == "bin" || (strings.HasPrefix(base, ".") && name != root)
}

func (h *house) add(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(h.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return err
	}
	relative = filepath.ToSlash(relative)
	h.files = append(h.files, source{
		path: relative, room: path.Dir(relative), text: text, file: file,
		lines:     bytes.Count(text, []byte("\n")),
		test:      strings.HasSuffix(relative, "_test.go"),
		generated: ast.IsGenerated(file) || strings.HasPrefix(relative, "gen/"),
	})
	return nil
}

// sources returns the files that keep accepts.
func sources(t *testing.T, keep func(source) bool) (*token.FileSet, []source) {
	t.Helper()
	h := readHouse()
	require.NoError(t, h.err)
	var kept []source
	for _, s := range h.files {
		if keep(s) {
			kept = append(kept, s)
		}
	}
	require.NotEmpty(t, kept, "found no Go files: is this test run from its own folder?")
	return h.fset, kept
}

// handwritten leaves generated code out.
func handwritten(s source) bool { return !s.generated }

// production leaves generated code and tests out.
func production(s source) bool { return !s.generated && !s.test }

// inside tells whether room is folder or below it.
func inside(room, folder string) bool { return room == folder || strings.HasPrefix(room, folder+"/") }

// functionName is the name of a function as people write it.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	return receiver(f) + "." + f.Name.Name
}

// receiver is the name of the type that a method belongs to.
func receiver(f *ast.FuncDecl) string {
	name := ""
	ast.Inspect(f.Recv.List[0].Type, func(n ast.Node) bool {
		if identifier, ok := n.(*ast.Ident); ok && name == "" {
			name = identifier.Name
		}
		return name == ""
	})
	return name
}

// calls walks every call of a function of an imported package in the file.
func calls(s source, visit func(pkg, function string, at token.Pos)) {
	named := map[string]string{}
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := packageName(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		named[name] = imported
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && named[x.Name] != "" {
			visit(named[x.Name], selector.Sel.Name, selector.Pos())
		}
		return true
	})
}

var versionSuffix = regexp.MustCompile(`^v\d+$`)

// packageName guesses a package's name from its import path.
func packageName(imported string) string {
	base := path.Base(imported)
	if versionSuffix.MatchString(base) {
		base = path.Base(path.Dir(imported))
	}
	return base
}
