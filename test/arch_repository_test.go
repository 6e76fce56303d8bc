// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/test/conformance"
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

// readTests finds the tests that are named after rows and threats, once.
var readTests = sync.OnceValues(func() ([]conformance.Test, error) {
	rows, err := conformance.Rows(root)
	if err != nil {
		return nil, err
	}
	return conformance.Scan(root, conformance.Areas(rows))
})

// Tests are named after the behaviour row or the threat that they show; a name
// with an ID that is in no list is a slip, or a list that fell behind.
func TestRepository_names_of_tests(t *testing.T) {
	rows, err := conformance.Rows(root)
	require.NoError(t, err)
	threats, err := conformance.Threats(root)
	require.NoError(t, err)
	known := map[string]bool{}
	for _, row := range slices.Concat(rows, threats) {
		known[row.ID] = true
	}
	tests, err := readTests()
	require.NoError(t, err)
	for _, test := range tests {
		if !known[test.ID] {
			t.Errorf("%s:%d: a test is named after %s, which is neither in %s nor in %s", test.File, test.Line, test.ID, conformance.RowsFile, conformance.ThreatsFile)
		}
	}
}

// What is only partly shown is a row or a threat, and is shown in part.
func TestRepository_partly_shown(t *testing.T) {
	partly, err := conformance.Partly(root)
	require.NoError(t, err)
	tests, err := readTests()
	require.NoError(t, err)
	for _, row := range partly {
		if !slices.ContainsFunc(tests, func(test conformance.Test) bool { return test.ID == row.ID }) {
			t.Errorf("%s: no test is named after %s", conformance.PartlyFile, row.ID)
		}
	}
}

// The page of what is kept says the truth.
func TestRepository_conformance_page(t *testing.T) {
	page, err := conformance.Page(root)
	require.NoError(t, err)
	committed, err := os.ReadFile(filepath.Join(root, conformance.PageFile))
	require.NoError(t, err)
	same := string(committed) == page // the page is long, and a difference of it says nothing
	require.True(t, same, "%s is not what the tests' names give: run `make generate`", conformance.PageFile)
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
