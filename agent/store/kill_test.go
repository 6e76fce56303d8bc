// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/internal/wire"
)

// The child process stores objects and says so on stdout after each; at the
// named step of the n-th write it kills itself.
const (
	childDir  = "FAIRLEAD_TEST_STORE_DIR"
	childStep = "FAIRLEAD_TEST_STORE_STEP"
)

func childContent(round, i int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("round %d object %d;", round, i), 200))
}

// runChild stores five objects again and again, round by round, and deletes one.
func runChild(dir, killAt string) {
	step, count, _ := strings.Cut(killAt, ":")
	left, err := strconv.Atoi(count)
	check(err)
	backend, err := NewFiles(dir)
	check(err)
	backend.step = func(name string) {
		if name != step {
			return
		}
		if left--; left == 0 {
			check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
			select {} // the signal is on its way
		}
	}
	ctx := context.Background()
	s, err := Open(ctx, Config{Backend: backend, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
	check(err)
	for round := 1; ; round++ {
		for i := range 5 {
			body := childContent(round, i)
			name := fmt.Sprintf("w%d", i)
			check(s.Put(ctx, work(name), revOf("uid-"+name, int64(round), body), body))
			say("stored", i, round)
		}
		_, err := s.Request(ctx, work("w0"), "uid-w0", int64(round))
		check(err)
		check(s.Forget(ctx, work("w0"), "uid-w0"))
		say("forgotten", 0, 0)
	}
}

// say tells the parent, in one write, what has been promised.
func say(verb string, i, round int) {
	_, err := fmt.Fprintf(os.Stdout, "%s %d %d\n", verb, i, round)
	check(err)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// T77 (receive, store, ack): what was said to be stored is there after SIGKILL
// at any step of a write; what was not is there as it was before or as it was
// to be.
func TestT77_stored_survives_SIGKILL(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"half written", "written", "synced", "renamed"} {
		for _, n := range []int{1, 2, 7, 13, 26} {
			t.Run(fmt.Sprintf("%s %d", step, n), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				said := killChild(t, dir, fmt.Sprintf("%s:%d", step, n))
				s := open(t, files(t, dir), nil)
				require.Empty(t, s.Dropped(), "a write that was cut short leaves no damage")
				for i, round := range said {
					requireStored(t, s, i, round)
				}
			})
		}
	}
}

// killChild returns, by object, the last round that the child said to have
// stored; 0 means that it said to have forgotten it.
func killChild(t *testing.T, dir, step string) map[int]int {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+dir, childStep+"="+step)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := map[int]int{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var verb string
		var i, round int
		_, err := fmt.Sscanf(lines.Text(), "%s %d %d", &verb, &i, &round)
		require.NoError(t, err)
		said[i] = round
	}
	err = cmd.Wait()
	require.ErrorContains(t, err, "signal: killed")
	return said
}

func requireStored(t *testing.T, s *Store, i, round int) {
	t.Helper()
	name := fmt.Sprintf("w%d", i)
	object, ok, err := s.Get(work(name))
	require.NoError(t, err)
	if !ok {
		require.Zero(t, i, "only the first object is ever forgotten")
		return
	}
	got := object.Revision.Generation
	if round != 0 { // forgotten, and perhaps stored again
		require.Contains(t, []int64{int64(round), int64(round) + 1}, got, "%s: said %d", name, round)
	}
	want := childContent(int(got), i)
	require.Equal(t, string(want), string(object.Content))
	require.NoError(t, wire.Verify(object.Revision, object.Content))
}
