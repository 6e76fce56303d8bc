// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// directRequirementsCap keeps the product small: each direct dependency has a
// reason in docs/ARCHITECTURE.md.
const directRequirementsCap = 25

// goMod is what `go mod edit -json` prints.
type goMod struct {
	Require []struct {
		Path     string `json:"path"`
		Indirect bool   `json:"indirect"`
	} `json:"require"`
	Replace []struct {
		Old struct {
			Path string `json:"path"`
		} `json:"old"`
	} `json:"replace"`
}

func TestRepository_go_mod(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	var mod goMod
	require.NoError(t, json.Unmarshal(out, &mod))
	for _, replace := range mod.Replace {
		t.Errorf("go.mod replaces %s: a replace does not reach those who `go install` us; pin a version instead", replace.Old.Path)
	}
	var direct []string
	for _, require := range mod.Require {
		if !require.Indirect && !ofKubernetes(require.Path) {
			direct = append(direct, require.Path)
		}
	}
	if len(direct) > directRequirementsCap {
		t.Errorf("go.mod has %d direct requirements besides Kubernetes' own family, more than %d: use what is there, or give one up:\n%s",
			len(direct), directRequirementsCap, strings.Join(direct, "\n"))
	}
}

// ofKubernetes tells modules that are chosen and upgraded as one with client-go
// (docs/adr/0005-dependencies.md).
func ofKubernetes(path string) bool {
	return strings.HasPrefix(path, "k8s.io/") || strings.HasPrefix(path, "sigs.k8s.io/")
}

// OCM's CRDs are copies, so that hubs and spokes agree with every other tool.
func TestRepository_CRDs_equal_the_pinned_module(t *testing.T) {
	const copies = root + "/deploy/crds/ocm"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", ocmAPI)
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	origin := strings.TrimSpace(string(out))
	require.NotEmpty(t, origin, "run `go mod download %s` first", ocmAPI)
	found := 0
	err = filepath.WalkDir(copies, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found++
		relative, err := filepath.Rel(copies, name)
		require.NoError(t, err)
		ours, err := os.ReadFile(name)
		require.NoError(t, err)
		theirs, err := os.ReadFile(filepath.Join(origin, relative))
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("deploy/crds/ocm/%s differs from %s: run `make generate`, never edit it (%v)", relative, ocmAPI, err)
		}
		return nil
	})
	require.NoError(t, err)
	require.NotZero(t, found)
}

// list is a list of what tests are to show, one ID at the start of each line.
type list struct {
	file    string
	pattern *regexp.Regexp
	ids     map[string]bool
}

func readList(t *testing.T, file, pattern string) list {
	t.Helper()
	l := list{file: file, pattern: regexp.MustCompile(pattern), ids: map[string]bool{}}
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		id, text, tab := strings.Cut(lines.Text(), "\t")
		switch {
		case l.pattern.FindString(id) != id:
			t.Errorf("test/%s:%d: %q is no ID like %s", file, number, id, pattern)
		case l.ids[id]:
			t.Errorf("test/%s:%d: %s is there twice", file, number, id)
		case !tab || strings.TrimSpace(text) == "":
			t.Errorf("test/%s:%d: %s needs a tab and a sentence on what must be seen", file, number, id)
		}
		l.ids[id] = true
	}
	require.NoError(t, lines.Err())
	return l
}

// areas are the first letters of the IDs.
func (l list) areas() []string {
	found := map[string]bool{}
	for id := range l.ids {
		area, _, _ := strings.Cut(id, "-")
		found[area] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// Tests are named after the behaviour row or the threat that they show; a name
// with an ID that is in no list is a slip, or a list that fell behind.
func TestRepository_names_of_tests(t *testing.T) {
	rows := readList(t, "conformance/rows.tsv", `[A-Z]{2}-[0-9]{2,3}`)
	threats := readList(t, "conformance/threats.tsv", `T[0-9]{1,3}`)
	row := regexp.MustCompile(`^((?:` + strings.Join(rows.areas(), "|") + `)-[0-9]+)(?:[_ ]|$)`)
	threat := regexp.MustCompile(`^Test(T)0*([0-9]+)_`) // TestT05_ sorts well, and means T5
	shown := map[string]bool{}
	fset, files := sources(t, func(s source) bool { return s.test })
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			id, known := "", true
			switch n := n.(type) {
			case *ast.FuncDecl:
				if m := threat.FindStringSubmatch(n.Name.Name); m != nil {
					id, known = m[1]+m[2], threats.ids[m[1]+m[2]]
				}
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				if m := row.FindStringSubmatch(text); n.Kind == token.STRING && err == nil && m != nil {
					id, known = m[1], rows.ids[m[1]]
				}
			}
			if !known {
				t.Errorf("%s: a test is named after %s, which is neither in test/%s nor in test/%s", fset.Position(n.Pos()), id, rows.file, threats.file)
			}
			shown[id] = true
			return true
		})
	}
	delete(shown, "")
	t.Logf("tests name %d of %d rows and threats", len(shown), len(rows.ids)+len(threats.ids))
}

// What CI runs is what the README tells people to run.
func TestRepository_CI_runs_make_test(t *testing.T) {
	script, err := os.ReadFile(root + "/.ci/run")
	require.NoError(t, err)
	lines := strings.Split(string(script), "\n")
	require.True(t, slices.Contains(lines, "make test"), ".ci/run must run the README's test command, `make test`")
	info, err := os.Stat(root + "/.ci/run")
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o111, ".ci/run must be executable")
}
