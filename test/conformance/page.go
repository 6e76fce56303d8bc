// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	// PageFile is the generated page, seen from the root of the repository.
	PageFile = "docs/conformance.md"
	// differences is the page on what Fairlead does otherwise; a row that it names before kept is one of those.
	differences = "docs/coming-from-ocm.md"
	kept        = "\nKept as they are, "
)

// most is how many tests of a row the page names.
const most = 3

// titles say what the areas are about.
var titles = map[string]string{
	"CM": "Operator of the hub", "KO": "Operator of the spoke", "RC": "Registration, on the hub", "WH": "Admission and conversion",
	"RA": "Registration, on the spoke", "PL": "Placement", "MW": "Works, on the spoke", "MH": "Works, on the hub",
	"AD": "Add-ons", "AT": "Add-ons by template, and their configuration", "AF": "What add-on frameworks rely on", "CA": "CLI",
	"FG": "Feature gates", "OB": "Metrics, events, logs, health", "GR": "OCM's own gRPC driver", "RQ": "Requirements of security",
}

// Page writes the page that says what each row is, and which test shows it, from the lists and the names of the tests below
// root.
func Page(root string) (string, error) {
	rows, err := Rows(root)
	if err != nil {
		return "", err
	}
	threats, err := Threats(root)
	if err != nil {
		return "", err
	}
	tests, err := Scan(root, Areas(rows))
	if err != nil {
		return "", err
	}
	page, err := os.ReadFile(filepath.Join(root, differences))
	if err != nil {
		return "", err
	}
	partly, err := Partly(root)
	if err != nil {
		return "", err
	}
	p := printer{shown: byID(tests), differs: map[string]bool{}, missing: map[string]string{}}
	for _, row := range partly {
		p.missing[row.ID] = row.Text
	}
	differing, _, ok := strings.Cut(string(page), kept)
	if !ok {
		return "", fmt.Errorf("%s has no line that begins with %q: which rows differ, and which do not?", differences, strings.TrimSpace(kept))
	}
	for _, id := range regexp.MustCompile(`\b[A-Z]{2}-[0-9]{2,3}\b`).FindAllString(differing, -1) {
		p.differs[id] = true
	}
	p.head(rows, threats)
	for _, area := range Areas(rows) {
		p.table(fmt.Sprintf("%s: %s", area, titles[area]), rows, area)
	}
	p.table("Faults and attacks", threats, "T")
	return p.String(), nil
}

type printer struct {
	strings.Builder
	shown   map[string][]Test
	differs map[string]bool
	missing map[string]string // what no test shows of a row, by ID
}

func (p *printer) head(rows, threats []Row) {
	p.WriteString(`<!-- Written by go run ./test/conformance/page from the names of the tests; do not edit. -->

# What is kept, and which test shows it

Every behaviour of Open Cluster Management that its users can see has a row here, in our words, and so has every fault and
attack that Fairlead is to stand. A test says by its name which row it shows. Those that take hours or thousands are smaller in
` + "`make test`" + `, and say so; ` + "`make soak`" + ` runs those on a network at full scale.

| Status | Means |
|---|---|
| kept | a test shows it on real control planes |
| kept (unit) | a test without control planes shows it |
| partly | tests show a part; the last column says what none does |
| differs | kept otherwise, or not at all: [coming from OCM](coming-from-ocm.md) says how, and why; tests show what is done instead |
| differs (unit) | likewise, shown without control planes |
| **open** | no test is named after it: take it as not there |

| Area | Rows | With a test |
|---|---|---|
`)
	for _, area := range Areas(rows) {
		p.count(titles[area], rows, area)
	}
	p.count("Faults and attacks", threats, "T")
}

func (p *printer) count(title string, rows []Row, area string) {
	all, shown := 0, 0
	for _, row := range rows {
		if row.Area() == area {
			all++
			if len(p.shown[row.ID]) > 0 {
				shown++
			}
		}
	}
	fmt.Fprintf(p, "| %s | %d | %d |\n", title, all, shown)
}

func (p *printer) table(title string, rows []Row, area string) {
	fmt.Fprintf(p, "\n## %s\n\n| ID | What must be seen | Status | Test |\n|---|---|---|---|\n", title)
	for _, row := range rows {
		if row.Area() == area {
			tests := p.shown[row.ID]
			shown := links(tests)
			if missing := p.missing[row.ID]; missing != "" {
				shown += "<br>Not shown: " + cell(missing)
			}
			fmt.Fprintf(p, "| %s | %s | %s | %s |\n", row.ID, cell(row.Text), p.status(row.ID, tests), shown)
		}
	}
}

func (p *printer) status(id string, tests []Test) string {
	switch {
	case p.differs[id] && len(tests) == 0:
		return "differs, **no test**"
	case p.differs[id] && !tests[0].Plane:
		return "differs (unit)"
	case p.differs[id]:
		return "differs"
	case len(tests) == 0:
		return "**open**"
	case p.missing[id] != "":
		return "partly"
	case !tests[0].Plane:
		return "kept (unit)"
	}
	return "kept"
}

// links names tests without their lines, which would change the page with every edit.
func links(tests []Test) string {
	var named []string
	seen := map[string]bool{}
	for _, test := range tests {
		name := strings.ReplaceAll(test.Name, " ", "_")
		if seen[test.File+name] {
			continue
		}
		seen[test.File+name] = true
		if len(named) == most {
			named = append(named, "…")
			break
		}
		named = append(named, fmt.Sprintf("[%s: %s](../%s)", path.Base(path.Dir(test.File)), cell(name), test.File))
	}
	return strings.Join(named, "<br>")
}

// cell keeps text within a cell of a table. A threat has two parts: what is done, and what must be seen.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "\t", " → ").Replace(text) }
