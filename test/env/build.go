// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// buildEnvironment is part of the compile cache's key: changing it costs
// everybody one cold build.
func buildEnvironment() []string {
	return []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -trimpath", "GOWORK=off"}
}

// buildArguments stamps the Kubernetes version, which otherwise reads as a
// development version. Two compilations at a time: single ones need up to 3 GB.
func buildArguments(kubernetes string) []string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(kubernetes, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	var flags strings.Builder
	flags.WriteString("-s -w")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&flags, " -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			pkg, kubernetes, major, minor)
	}
	return []string{"-p=2", "-ldflags=" + flags.String()}
}

// build is one compilation of devplane.
type build struct {
	source   string
	target   string
	progress io.Writer

	total    atomic.Int64 // packages in the build, 0 while unknown
	compiled atomic.Int64
	fetched  atomic.Int64 // modules downloaded
	linking  atomic.Bool

	mu   sync.Mutex
	tail []string // the compiler's last words, for the error
}

// run builds into a temporary file beside the target and renames it, so that
// the target is either absent or whole.
func (b *build) run(ctx context.Context) error {
	began := time.Now()
	fmt.Fprintln(b.progress, "devplane: cold, compiling real Kubernetes from Go modules; this happens once per machine and takes some minutes")
	kubernetes, err := kubernetesVersion(b.source)
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", b.target, os.Getpid())
	defer os.Remove(temporary)
	stop := b.report(began)
	defer stop()
	if err := b.countPackages(ctx); err != nil {
		return err
	}
	args := append([]string{"build", "-v", "-o", temporary}, buildArguments(kubernetes)...)
	if err := b.golang(ctx, nil, append(args, ".")...); err != nil {
		return err
	}
	if err := os.Rename(temporary, b.target); err != nil {
		return fmt.Errorf("putting devplane into its cache: %w", err)
	}
	fmt.Fprintf(b.progress, "devplane: built in %s (%d packages compiled, the others were in Go's cache): %s\n",
		time.Since(began).Round(time.Second), b.compiled.Load(), b.target)
	return nil
}

// countPackages also downloads the modules.
func (b *build) countPackages(ctx context.Context) error {
	var out strings.Builder
	if err := b.golang(ctx, &out, "list", "-deps", "."); err != nil {
		return err
	}
	b.total.Store(int64(strings.Count(out.String(), "\n")))
	return nil
}

// golang runs the go command in the devplane module.
func (b *build) golang(ctx context.Context, stdout io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), buildEnvironment()...)
	cmd.Stdout = stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("building devplane: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("building devplane needs the go command on PATH (or %s set to a built devplane): %w", BinaryVariable, err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		b.note(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return fmt.Errorf("building devplane: go %s in %q: %w\n%s", args[0], b.source, err, strings.Join(b.tail, "\n"))
	}
	return nil
}

// note counts one line of the go command, which names each package it compiles
// and each module it downloads.
func (b *build) note(line string) {
	switch {
	case strings.HasPrefix(line, "go: downloading"):
		b.fetched.Add(1)
	case line != "" && !strings.ContainsAny(line, " \t#"):
		b.compiled.Add(1)
		b.linking.Store(line == "fairlead.dev/fairlead/cmd/devplane") // the last one
	default:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.tail = append(b.tail, line)
		b.tail = b.tail[max(0, len(b.tail)-40):]
	}
}

// report tells the progress every few seconds until stopped.
func (b *build) report(began time.Time) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(5 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				fmt.Fprintf(b.progress, "devplane: %s: %s\n", time.Since(began).Round(time.Second), b.state())
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// kubernetesVersion reads the version that devplane's go.mod pins.
func kubernetesVersion(source string) (string, error) {
	file := filepath.Join(source, "go.mod")
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading devplane's go.mod: %w", err)
	}
	found := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)`).FindSubmatch(content)
	if found == nil {
		return "", fmt.Errorf("%s does not require k8s.io/kubernetes", file)
	}
	return string(found[1]), nil
}

func (b *build) state() string {
	switch {
	case b.total.Load() == 0:
		return fmt.Sprintf("finding packages, %d modules downloaded", b.fetched.Load())
	case b.linking.Load():
		return fmt.Sprintf("%d packages compiled, linking", b.compiled.Load())
	default:
		return fmt.Sprintf("%d packages compiled of at most %d", b.compiled.Load(), b.total.Load())
	}
}
