// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Every package says what the room is for, what comes in, what goes out and what
// it must not know.
func TestDocs_packages(t *testing.T) {
	_, files := sources(t, handwritten)
	documented := map[string]bool{}
	for _, s := range files {
		documented[s.room] = documented[s.room] || s.file.Doc != nil
		if s.file.Doc == nil || s.test {
			continue
		}
		text := s.file.Doc.Text()
		if want := "Package " + s.file.Name.Name; s.file.Name.Name != "main" && !strings.HasPrefix(text, want+" ") {
			t.Errorf("%s: the package comment should begin with %q", s.path, want)
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(documented)) {
		if !documented[folder] {
			t.Errorf("%s has no package comment: write what it is for, what comes in, what goes out, what it must not know (in doc.go or its main file)", folder)
		}
	}
}

// Every exported symbol says who may call it, when it blocks and who owns what.
func TestDocs_exported_symbols(t *testing.T) {
	fset, files := sources(t, func(s source) bool { return production(s) && s.file.Name.Name != "main" })
	for _, s := range files {
		for _, declaration := range s.file.Decls {
			for _, name := range undocumented(declaration) {
				t.Errorf("%s: exported %s has no comment", fset.Position(declaration.Pos()), name)
			}
		}
	}
}

// undocumented lists what a declaration exports without a comment.
func undocumented(declaration ast.Decl) []string {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		hidden := d.Recv != nil && !ast.IsExported(receiver(d))
		if d.Doc == nil && d.Name.IsExported() && !hidden {
			return []string{functionName(d)}
		}
	case *ast.GenDecl:
		if d.Doc != nil && d.Tok != token.TYPE {
			return nil // one comment for a group of constants or variables
		}
		var names []string
		for _, spec := range d.Specs {
			names = append(names, undocumentedSpec(spec, d.Doc != nil)...)
		}
		return names
	}
	return nil
}

func undocumentedSpec(spec ast.Spec, grouped bool) []string {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && !grouped {
			return []string{s.Name.Name}
		}
	case *ast.ValueSpec:
		var names []string
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil {
				names = append(names, name.Name)
			}
		}
		return names
	}
	return nil
}
