// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conformance knows what Fairlead is held to: the rows of rows.tsv (behaviours of Open Cluster Management) and of
// threats.tsv (faults and attacks), and which tests show each. Tests say so by their names, TestX/MW-31_ignore_fields or
// TestT09_name_reused, wherever they live; those of rows that need no other room live in the folders below this one.
package conformance

import (
	"bufio"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The lists, seen from the root of the repository.
const (
	RowsFile    = "test/conformance/rows.tsv"
	ThreatsFile = "test/conformance/threats.tsv"
	PartlyFile  = "test/conformance/partly.tsv"
)

// Row is a line of one of the lists.
type Row struct{ ID, Text string }

// Area is the letters of the row's ID.
func (r Row) Area() string { return strings.TrimRight(r.ID, "0123456789-") }

// Test is a place that is named after a row.
type Test struct {
	// ID is the row's.
	ID string
	// File is its path from the root of the repository, with slashes; Line counts from 1.
	File string
	Line int
	// Name is the name of the test, or of the subtest.
	Name string
	// Plane: its package runs real control planes.
	Plane bool
}

// Read reads a list. It is an error if a line has no ID of the pattern, no text, or an ID that was there already.
func Read(root, file, pattern string) ([]Row, error) {
	f, err := os.Open(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rows []Row
	id := regexp.MustCompile(`^(?:` + pattern + `)$`)
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		row := Row{}
		row.ID, row.Text, _ = strings.Cut(lines.Text(), "\t")
		switch {
		case !id.MatchString(row.ID):
			return nil, fmt.Errorf("%s:%d: %q is no ID like %s", file, number, row.ID, pattern)
		case seen[row.ID]:
			return nil, fmt.Errorf("%s:%d: %s is there twice", file, number, row.ID)
		case strings.TrimSpace(row.Text) == "":
			return nil, fmt.Errorf("%s:%d: %s needs a tab and a sentence on what must be seen", file, number, row.ID)
		}
		seen[row.ID] = true
		rows = append(rows, row)
	}
	return rows, lines.Err()
}

// Rows reads the behaviours.
func Rows(root string) ([]Row, error) { return Read(root, RowsFile, `[A-Z]{2}-[0-9]{2,3}`) }

// Threats reads the faults and attacks.
func Threats(root string) ([]Row, error) { return Read(root, ThreatsFile, `T[0-9]{1,3}`) }

// Partly reads of which rows and threats no test shows all, and what is missing.
func Partly(root string) ([]Row, error) {
	return Read(root, PartlyFile, `[A-Z]{2}-[0-9]{2,3}|T[0-9]{1,3}`)
}

var (
	threatName = regexp.MustCompile(`^Test(T)0*([0-9]+)_`) // TestT05_ sorts well, and means T5
	threatCase = regexp.MustCompile(`^T0*([0-9]+)_[a-zA-Z]`)
)

// Scan finds every test below root that is named after a row of one of the areas or after a threat, in order of files. A
// name that begins with several IDs shows each of them.
func Scan(root string, areas []string) ([]Test, error) {
	row := regexp.MustCompile(`^((?:` + strings.Join(areas, "|") + `)-[0-9]+)(?:[_ ]|$)`)
	var found []Test
	planes := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); base == "testdata" || base == "bin" || (strings.HasPrefix(base, ".") && path != root) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		tests, plane, err := scanFile(root, path, row)
		if plane {
			planes[filepath.ToSlash(filepath.Dir(tests.file))] = true
		}
		found = append(found, tests.found...)
		return err
	})
	for i, test := range found {
		found[i].Plane = planes[filepath.ToSlash(filepath.Dir(test.File))]
	}
	return found, err
}

// scanned is what one file has.
type scanned struct {
	file  string
	found []Test
}

// scanFile also tells whether the file starts control planes.
func scanFile(root, path string, row *regexp.Regexp) (scanned, bool, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return scanned{}, false, err
	}
	relative, err := filepath.Rel(root, path)
	if err != nil {
		return scanned{}, false, err
	}
	s := scanned{file: filepath.ToSlash(relative)}
	plane := false
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if m := threatName.FindStringSubmatch(n.Name.Name); m != nil && n.Recv == nil {
				s.add(fset.Position(n.Pos()), m[1]+m[2], n.Name.Name)
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				s.addRows(fset.Position(n.Pos()), text, row)
				if m := threatCase.FindStringSubmatch(text); m != nil {
					s.add(fset.Position(n.Pos()), "T"+m[1], text)
				}
			}
		case *ast.SelectorExpr:
			plane = plane || startsPlanes(n)
		}
		return true
	})
	return s, plane, nil
}

// startsPlanes tells what every package that runs control planes has in its tests.
func startsPlanes(n *ast.SelectorExpr) bool {
	x, ok := n.X.(*ast.Ident)
	return ok && x.Name == "env" && slices.Contains([]string{"Main", "Start", "StartPlane", "Verify"}, n.Sel.Name)
}

// addRows adds the test once for each ID that its name begins with.
func (s *scanned) addRows(at token.Position, name string, row *regexp.Regexp) {
	rest := name
	for m := row.FindStringSubmatch(rest); m != nil; m = row.FindStringSubmatch(rest) {
		s.add(at, m[1], name)
		rest = strings.TrimLeft(rest[len(m[1]):], "_ ")
	}
}

func (s *scanned) add(at token.Position, id, name string) {
	s.found = append(s.found, Test{ID: id, File: s.file, Line: at.Line, Name: name})
}

// Areas are the areas of rows, in order.
func Areas(rows []Row) []string {
	found := map[string]bool{}
	for _, row := range rows {
		found[row.Area()] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// byID sorts the tests of each row: those with real control planes first.
func byID(tests []Test) map[string][]Test {
	shown := map[string][]Test{}
	for _, test := range tests {
		shown[test.ID] = append(shown[test.ID], test)
	}
	for _, of := range shown {
		slices.SortStableFunc(of, func(a, b Test) int {
			if a.Plane != b.Plane {
				return cmp.Compare(strconv.FormatBool(b.Plane), strconv.FormatBool(a.Plane))
			}
			return cmp.Compare(a.File, b.File)
		})
	}
	return shown
}
