// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reason

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryReasonIsDocumented keeps docs/errors.md complete.
func TestEveryReasonIsDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	require.NoError(t, err)
	doc, err := os.ReadFile("../../../docs/errors.md")
	require.NoError(t, err)
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		value, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		if value == Domain {
			return true
		}
		found++
		require.Contains(t, string(doc), "| `"+value+"` |", "docs/errors.md has no row for %s: say what happened and what to do", value)
		return true
	})
	require.Greater(t, found, 30)
}
