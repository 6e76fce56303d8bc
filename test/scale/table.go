// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"fairlead.dev/fairlead/test/scale/stat"
)

// table is rows, each of which may get a ratio after it was added.
type table struct{ rows []row }

func (t *table) add(figure, goal, hub, bare, verdict string) *row {
	t.rows = append(t.rows, row{figure: figure, goal: goal, hub: hub, bare: bare, verdict: verdict})
	return &t.rows[len(t.rows)-1]
}

// over notes how much more one is than the other.
func (r *row) over(hub, bare float64) {
	if bare > 0 {
		r.ratio = strconv.FormatFloat(hub/bare, 'f', 2, 64) + "x"
	}
}

func mark(good bool) string {
	if good {
		return "pass"
	}
	return "FAIL"
}

// number prints three digits that matter.
func number(x float64) string {
	switch {
	case x >= 100 || x <= -100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10 || x <= -10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

func whole(n int) string { return strconv.Itoa(n) }

func micro(total time.Duration, times int) float64 {
	return float64(total) / float64(max(times, 1)) / float64(time.Microsecond)
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r row) cells() []string {
	return []string{r.figure, r.goal, r.hub, r.bare, r.ratio, r.verdict}
}

func header() []string { return []string{"figure", "goal", "hub", "bare", "ratio", ""} }

// printText writes the table for a terminal.
func printText(to io.Writer, rows []row) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	for _, cells := range append([][]string{header()}, cellsOf(rows)...) {
		if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// printMarkdown writes the table for a file.
func printMarkdown(to io.Writer, rows []row) error {
	rule := strings.Split(strings.Repeat("---,", len(header())-1)+"---", ",")
	for _, cells := range append([][]string{header(), rule}, cellsOf(rows)...) {
		if _, err := fmt.Fprintf(to, "| %s |\n", strings.Join(cells, " | ")); err != nil {
			return err
		}
	}
	return nil
}

func cellsOf(rows []row) [][]string {
	all := make([][]string, 0, len(rows))
	for _, r := range rows {
		all = append(all, r.cells())
	}
	return all
}

// printCounts writes what was counted more than a few times.
func printCounts(to io.Writer, all map[string]stat.Counts) {
	const few = 5
	for _, step := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(to, "\n%s\n", step)
		for _, what := range slices.Sorted(maps.Keys(all[step])) {
			if n := all[step][what]; n > few {
				fmt.Fprintf(to, "%8d  %s\n", n, what)
			}
		}
	}
}
