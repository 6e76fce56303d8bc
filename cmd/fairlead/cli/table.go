// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// gap is between two columns.
const gap = "   "

// table prints rows in columns. Widths only grow, and rows printed later line
// up with those before as far as they fit.
type table struct {
	widths []int
	headed bool
}

func (t *table) print(out io.Writer, heads []string, rows [][]string) error {
	lines := rows
	if !t.headed {
		t.headed = true
		lines = append([][]string{heads}, rows...)
	}
	t.widths = append(t.widths, make([]int, max(0, len(heads)-len(t.widths)))...)
	for _, line := range lines {
		for i := range line {
			line[i] = oneLine(line[i])
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(line[i]))
		}
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(t.line(line))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (t *table) line(cells []string) string {
	var text strings.Builder
	for i, cell := range cells {
		text.WriteString(cell)
		text.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)))
		text.WriteString(gap)
	}
	return strings.TrimRight(text.String(), " ") + "\n"
}

// oneLine keeps a cell a cell, and a terminal safe: messages come from spokes.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
}
