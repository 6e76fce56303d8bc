// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// BinaryVariable names the environment variable that, when set, is the path of
// the devplane binary to use instead of building one.
const BinaryVariable = "FAIRLEAD_DEVPLANE"

// Binary returns the path of the devplane binary, building cmd/devplane first if
// this machine has not built these sources yet. The result lives in the user's
// cache folder under a hash of the sources, the Go version and the build flags,
// so that clones share it. Any number of processes may call it at once: one
// builds, the others wait for it.
//
// A cold build takes minutes; progress is told every few seconds. It says on
// progress whether the cache was cold or warm.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	path, cold, err := binary(ctx, progress)
	if err == nil && !cold {
		fmt.Fprintf(progress, "devplane: warm, using %s\n", path)
	}
	return path, err
}

// binary is Binary without a word when nothing had to be built.
func binary(ctx context.Context, progress io.Writer) (path string, cold bool, err error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", false, fmt.Errorf("%s=%q: %w; unset it to have devplane built", BinaryVariable, path, err)
		}
		return path, false, nil
	}
	path, source, err := cached()
	if err != nil || exists(path) {
		return path, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", true, fmt.Errorf("making devplane's cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(filepath.Dir(path), "lock"), progress)
	if err != nil {
		return "", true, err
	}
	defer unlock()
	if exists(path) { // another process built it while we waited
		return path, false, nil
	}
	b := build{source: source, target: path, progress: progress}
	return path, true, b.run(ctx)
}

// Warm tells whether Binary would return at once, and the path it would return.
func Warm() (path string, warm bool, err error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return path, exists(path), nil
	}
	path, _, err = cached()
	return path, err == nil && exists(path), err
}

// cached returns where the binary of the present sources belongs, and the
// sources' folder.
func cached() (path, source string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", "", err
	}
	source = filepath.Join(root, "cmd", "devplane")
	sum, err := sourceHash(source)
	if err != nil {
		return "", "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", fmt.Errorf("finding the user's cache folder (set HOME, or %s to a built devplane): %w", BinaryVariable, err)
	}
	return filepath.Join(cache, "fairlead", "devplane", sum, "devplane"), source, nil
}

// sourceHash covers all that decides what the build yields.
func sourceHash(source string) (string, error) {
	files, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return "", fmt.Errorf("listing devplane's sources: %w", err)
	}
	hash := sha256.New()
	for _, file := range append(files, filepath.Join(source, "go.mod"), filepath.Join(source, "go.sum")) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading devplane's sources: %w", err)
		}
		fmt.Fprintf(hash, "%s %d\n%s\n", filepath.Base(file), len(content), content)
	}
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, buildEnvironment(), buildArguments(""))
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// moduleRoot finds the repository from the working folder, which is the
// package's folder in tests and anywhere inside the repository otherwise.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(content, []byte("module fairlead.dev/fairlead\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no module fairlead.dev/fairlead at or above %q: run this inside the repository, or set %s to a built devplane", start, BinaryVariable)
		}
	}
}

// lock takes an exclusive lock on file, waiting for whoever holds it.
func lock(ctx context.Context, file string, progress io.Writer) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening devplane's build lock: %w", err)
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing releases the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %q: %w", file, err)
		}
		if !told {
			fmt.Fprintf(progress, "devplane: cold, another process is building it; waiting for %s\n", file)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another process to build devplane: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
