// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
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

// patience is how much longer than the time to fuzz one target may take: to
// build it, to run its corpus, and to make a failing input small.
const patience = 20 * time.Minute

// target is one fuzz target.
type target struct{ dir, name string }

func (t target) String() string { return t.dir + " " + t.name }

// command is how to run what of the target.
func (t target) command(more ...string) []string {
	return append([]string{"test", "./" + t.dir}, more...)
}

func main() {
	each := flag.Duration("time", time.Minute, "how long each target is fuzzed")
	only := flag.String("only", "", "run only targets whose folder or name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *each, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

func run(ctx context.Context, each time.Duration, only string) error {
	all, err := targets(".")
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(all, func(t target) bool { return !strings.Contains(t.String(), only) })
	if len(chosen) == 0 {
		return fmt.Errorf("no fuzz target has %q in its folder or name", only)
	}
	var failed []string
	for i, t := range chosen {
		begun := time.Now()
		out, err := fuzz(ctx, t, each)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v := judge(out, err)
		fmt.Printf("%2d/%d  %-45s %6s  %s\n", i+1, len(chosen), t, time.Since(begun).Round(time.Second), v.text)
		if v.failed {
			failed = append(failed, t.String())
			fmt.Print(report(t, v, out))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// targets are all fuzz targets below root, sorted.
func targets(root string) ([]target, error) {
	var found []target
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range declaration.FindAllSubmatch(text, -1) {
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found = append(found, target{filepath.ToSlash(dir), string(match[1])})
		}
		return nil
	})
	slices.SortFunc(found, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return found, err
}

// fuzz runs one target and returns what it printed.
func fuzz(ctx context.Context, t target, each time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, each+patience)
	defer cancel()
	args := t.command("-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "20s")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return out.String(), fmt.Errorf("it did not end in %v: %w", each+patience, ctx.Err())
	}
	return out.String(), err
}

// verdict is what became of one target.
type verdict struct {
	failed bool
	text   string // in a line
	input  string // the failing input, as go test names it: Fuzz…/…
}

var (
	progress = regexp.MustCompile(`(?m)^fuzz: elapsed: .*$`)
	rate     = regexp.MustCompile(` \(\d+/sec\)`)
	written  = regexp.MustCompile(`(?m)testdata/fuzz/(Fuzz\w+/\w+)$`)
	// late is all that go says of a target whose last input was still running
	// when the time was up: nothing was found.
	late = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([\d.]+s\)\n\s+context deadline exceeded\nFAIL\n`)
)

func judge(out string, err error) verdict {
	lines := progress.FindAllString(out, -1)
	v := verdict{text: "nothing was run"}
	if len(lines) > 0 {
		_, v.text, _ = strings.Cut(strings.TrimPrefix(lines[len(lines)-1], "fuzz: elapsed: "), ", ")
		v.text = rate.ReplaceAllString(v.text, "") // of the last moment
	}
	if match := written.FindStringSubmatch(out); match != nil {
		v.input = match[1]
	}
	if err != nil && (v.input != "" || !late.MatchString(out)) {
		v.failed, v.text = true, fmt.Sprintf("FAILED (%v)", err)
	}
	v.failed = v.failed || len(lines) == 0
	return v
}

// report is what somebody needs to know of a failure.
func report(t target, v verdict, out string) string {
	var b strings.Builder
	for line := range strings.Lines(progress.ReplaceAllString(out, "")) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("    " + line)
		}
	}
	if v.input == "" {
		return b.String()
	}
	file := filepath.Join(t.dir, "testdata", "fuzz", filepath.FromSlash(v.input))
	if input, err := os.ReadFile(file); err == nil {
		fmt.Fprintf(&b, "The input, %s:\n%s\n", file, input)
	}
	fmt.Fprintf(&b, "See it again with: go %s\n", strings.Join(t.command("-run", "'^"+v.input+"$'"), " "))
	return b.String()
}
