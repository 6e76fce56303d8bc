// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"go/ast"
	"go/token"
	"testing"
)

// Caps of docs/ARCHITECTURE.md's style: what one can hold in one's head.
const (
	fileCap       = 600
	functionCap   = 80
	complexityCap = 15
	nestingCap    = 3
	parameterCap  = 5
	methodCap     = 5

	testFileCap     = 900
	testFunctionCap = 150
)

func TestSize_files(t *testing.T) {
	_, files := sources(t, handwritten)
	for _, s := range files {
		limit := fileCap
		if s.test {
			limit = testFileCap
		}
		if s.lines > limit {
			t.Errorf("%s has %d lines, more than %d: split it by noun or verb, one per file", s.path, s.lines, limit)
		}
	}
}

func TestSize_functions(t *testing.T) {
	fset, files := sources(t, handwritten)
	for _, s := range files {
		for _, declaration := range s.file.Decls {
			f, ok := declaration.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			where, name := fset.Position(f.Pos()), functionName(f)
			lines := fset.Position(f.End()).Line - where.Line + 1
			if s.test {
				if lines > testFunctionCap {
					t.Errorf("%s: %s has %d lines, more than %d: split the test, or move its steps into helpers", where, name, lines, testFunctionCap)
				}
				continue
			}
			if lines > functionCap {
				t.Errorf("%s: %s has %d lines, more than %d: give its steps names", where, name, lines, functionCap)
			}
			if n := complexity(f.Body); n > complexityCap {
				t.Errorf("%s: %s has a cyclomatic complexity of %d, more than %d: return early, use a table, or give branches names", where, name, n, complexityCap)
			}
			if n := nesting(f.Body); n > nestingCap {
				t.Errorf("%s: %s nests %d deep, more than %d: return or continue early, or move the inside into a function", where, name, n, nestingCap)
			}
			if n := f.Type.Params.NumFields(); n > parameterCap {
				t.Errorf("%s: %s has %d parameters, more than %d: pass a Config struct", where, name, n, parameterCap)
			}
		}
	}
}

func TestSize_interfaces(t *testing.T) {
	fset, files := sources(t, production)
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if i, ok := spec.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > methodCap {
				t.Errorf("%s: interface %s has %d methods, more than %d: let each consumer declare the 1-3 it calls",
					fset.Position(spec.Pos()), spec.Name.Name, i.Methods.NumFields(), methodCap)
			}
			return true
		})
	}
}

// complexity is the number of ways through a function, its literals included.
func complexity(body *ast.BlockStmt) int {
	n := 1
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// nesting is how deep the statements of a function nest; an else-if is as deep
// as its if, and a function literal begins anew.
func nesting(body *ast.BlockStmt) int {
	d := &depths{}
	d.block(body, 0)
	return d.deepest
}

type depths struct{ deepest int }

// block looks at the parts of a node that lie at the given depth.
func (d *depths) block(node ast.Node, depth int) {
	d.deepest = max(d.deepest, depth)
	ast.Inspect(node, func(n ast.Node) bool {
		if n == node {
			return true
		}
		switch n := n.(type) {
		case *ast.IfStmt:
			d.branch(n, depth)
			return false
		case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
			d.block(n, depth+1)
			return false
		case *ast.FuncLit:
			d.block(n.Body, 0)
			return false
		}
		return true
	})
}

func (d *depths) branch(n *ast.IfStmt, depth int) {
	if n.Init != nil {
		d.block(n.Init, depth)
	}
	d.block(n.Cond, depth)
	d.block(n.Body, depth+1)
	switch otherwise := n.Else.(type) {
	case *ast.IfStmt:
		d.branch(otherwise, depth)
	case *ast.BlockStmt:
		d.block(otherwise, depth+1)
	}
}
