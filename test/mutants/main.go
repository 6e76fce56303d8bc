// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// testTimeout bounds one mutant's tests, which take less as they are: a mutant that
	// makes them hang is noticed.
	testTimeout = 5 * time.Minute
	// buildTimeout bounds what comes before them.
	buildTimeout = 10 * time.Minute
)

// mutant is one guard and what the code looks like without it.
type mutant struct {
	name  string
	rule  string // what the guard is for, with the decision or bug class
	file  string
	old   string // occurs exactly once in file
	new   string
	tests []string // packages whose tests are to notice
	run   string   // pattern of those tests, where all of a package take long; empty: all
}

// outcome is what became of one.
type outcome struct {
	red  string // the test that noticed; empty if none
	took time.Duration
}

func main() {
	only := flag.String("only", "", "run only mutants whose name contains this")
	list := flag.Bool("list", false, "print the list and run nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *list); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

func run(ctx context.Context, only string, list bool) error {
	chosen := slices.DeleteFunc(all(), func(m mutant) bool { return !strings.Contains(m.name, only) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant's name contains %q; «go run ./test/mutants -list» shows them", only)
	}
	var survived, broken []string
	for i, m := range chosen {
		if list {
			fmt.Printf("%-28s %s\n%28s %s\n", m.name, m.rule, "", m.file)
			continue
		}
		o, err := try(ctx, m)
		progress := fmt.Sprintf("%2d/%d  %-28s %6s ", i+1, len(chosen), m.name, o.took.Round(100*time.Millisecond))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			broken = append(broken, m.name)
			fmt.Printf("%s BROKEN    %v\n", progress, err)
		case o.red == "":
			survived = append(survived, m.name)
			fmt.Printf("%s SURVIVED  %s\n", progress, m.rule)
		default:
			fmt.Printf("%s noticed by %s\n", progress, o.red)
		}
	}
	if len(survived)+len(broken) > 0 {
		return fmt.Errorf("unnoticed: %v; broken: %v. A guard that no test notices needs one; a broken mutant names code that has changed, or does not compile", survived, broken)
	}
	if !list {
		fmt.Printf("%d guards, each removed once: a test noticed every time\n", len(chosen))
	}
	return nil
}

// try runs the tests against the code without the guard.
func try(ctx context.Context, m mutant) (outcome, error) {
	overlay, clean, err := m.overlay()
	if err != nil {
		return outcome{}, err
	}
	defer clean()
	ctx, cancel := context.WithTimeout(ctx, testTimeout+buildTimeout)
	defer cancel()
	args := []string{"test", "-count=1", "-failfast", "-vet=off", "-timeout", testTimeout.String(), "-overlay", overlay, "-run", m.run}
	began := time.Now()
	out, err := exec.CommandContext(ctx, "go", append(args, m.tests...)...).CombinedOutput()
	o := outcome{took: time.Since(began)}
	switch {
	case err == nil:
		return o, nil
	case ctx.Err() != nil:
		return o, fmt.Errorf("its tests were stopped (%w), which shows nothing: they have %s to build and run; stop what else this machine does, or name those that matter", ctx.Err(), testTimeout+buildTimeout)
	}
	if strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]") {
		return o, fmt.Errorf("it does not compile:\n%s", out)
	}
	o.red = redOf(string(out))
	return o, nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// redOf names the innermost test that failed.
func redOf(out string) string {
	if strings.Contains(out, "panic: test timed out") {
		return "a test that hangs"
	}
	names := failed.FindAllStringSubmatch(out, -1)
	if len(names) == 0 {
		return "a crash: " + strings.TrimSpace(out[:min(len(out), 200)])
	}
	longest := names[0][1]
	for _, n := range names {
		if strings.HasPrefix(n[1], longest) {
			longest = n[1]
		}
	}
	return longest
}

// source is the file as it is, which has the guard once.
func (m mutant) source(root string) (string, error) {
	source, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("%s has the text %d times, want once:\n%s", m.file, n, m.old)
	}
	return string(source), nil
}

// overlay writes the changed file and the JSON that Go wants.
func (m mutant) overlay() (path string, clean func(), err error) {
	source, err := m.source(".")
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "fairlead-mutant-")
	if err != nil {
		return "", nil, err
	}
	clean = func() { _ = os.RemoveAll(dir) } // a temporary folder
	absolute, err := filepath.Abs(m.file)
	if err != nil {
		clean()
		return "", nil, err
	}
	changed := filepath.Join(dir, "mutant.go")
	mapping, err := json.Marshal(map[string]map[string]string{"Replace": {absolute: changed}})
	if err == nil {
		err = os.WriteFile(changed, []byte(strings.Replace(source, m.old, m.new, 1)), 0o600)
	}
	path = filepath.Join(dir, "overlay.json")
	if err == nil {
		err = os.WriteFile(path, mapping, 0o600)
	}
	if err != nil {
		clean()
		return "", nil, err
	}
	return path, clean, nil
}
