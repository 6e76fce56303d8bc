// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBinary_warm(t *testing.T) {
	first, err := Binary(t.Context(), os.Stderr)
	require.NoError(t, err)
	var said bytes.Buffer
	again, err := Binary(t.Context(), &said)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Contains(t, said.String(), "warm")
	path, warm, err := Warm()
	require.NoError(t, err)
	require.True(t, warm)
	require.Equal(t, first, path)
}

func TestBinary_override(t *testing.T) {
	t.Setenv(BinaryVariable, "/nowhere/devplane")
	_, err := Binary(t.Context(), os.Stderr)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "unset it to have devplane built")

	t.Setenv(BinaryVariable, os.Args[0])
	path, err := Binary(t.Context(), os.Stderr)
	require.NoError(t, err)
	require.Equal(t, os.Args[0], path)
}

func TestBinary_hash_covers_sources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	hash := func() string {
		t.Helper()
		sum, err := sourceHash(dir)
		require.NoError(t, err)
		return sum
	}
	write("go.mod", "module x")
	write("go.sum", "")
	write("main.go", "package main")
	before := hash()
	require.Equal(t, before, hash(), "the same sources have the same hash")
	write("main_test.go", "package main")
	require.Equal(t, before, hash(), "tests do not go into the binary")
	for _, name := range []string{"main.go", "go.mod", "go.sum", "added.go"} {
		write(name, "// changed")
		after := hash()
		require.NotEqual(t, before, after, "%s changed", name)
		before = after
	}
}

func TestBinary_lock_lets_one_in(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), file, os.Stderr)
	require.NoError(t, err)

	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var said bytes.Buffer
	_, err = lock(impatient, file, &said)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Contains(t, said.String(), "another process is building it")

	var second sync.WaitGroup
	second.Go(func() {
		unlockSecond, err := lock(t.Context(), file, &bytes.Buffer{})
		if err == nil {
			unlockSecond()
		}
		require.NoError(t, err)
	})
	unlock()
	second.Wait()
}

func TestBuild_tells_progress(t *testing.T) {
	b := build{progress: os.Stderr}
	require.Equal(t, "finding packages, 0 modules downloaded", b.state())
	b.note("go: downloading k8s.io/kubernetes v1.37.2")
	require.Equal(t, "finding packages, 1 modules downloaded", b.state())
	b.total.Store(3)
	b.note("k8s.io/api/core/v1")
	require.Equal(t, "1 packages compiled of at most 3", b.state())
	b.note("# k8s.io/api/core/v1")
	b.note("./main.go:3:1: syntax error")
	require.Equal(t, "1 packages compiled of at most 3", b.state())
	require.Len(t, b.tail, 2, "errors are kept")
	b.note("fairlead.dev/fairlead/cmd/devplane")
	require.Equal(t, "2 packages compiled, linking", b.state())
}
