// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// raceVariable makes this test binary a process that has a data race.
const raceVariable = "FAIRLEAD_TEST_RACE"

func race() {
	var group sync.WaitGroup
	n := 0
	for range 2 {
		group.Go(func() { n++ })
	}
	group.Wait()
}

// What the race detector says in another process fails the run, though nobody
// reads that process's output or asks how it ended.
func TestRacesOfProcesses(t *testing.T) {
	t.Setenv("GORACE", "") // restored when the test ends
	races, err := watchRaces()
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), raceVariable+"=1")
	_ = child.Run()
	err = races.verdict()
	require.NoDirExists(t, string(races))
	if Race {
		require.ErrorContains(t, err, "WARNING: DATA RACE")
		require.ErrorContains(t, err, "env.race")
		return
	}
	require.NoError(t, err, "it has no detector")
}

type tests int

func (t tests) Run() int { return int(t) }

func TestVerifyEndsWhatIsShared(t *testing.T) {
	t.Setenv("GORACE", "")
	for _, code := range []int{0, 1, 2} {
		ended := -1
		require.Equal(t, code, ending{tests: tests(code), end: func(code int) int { ended = code; return code }}.Run())
		require.Equal(t, code, ended)
	}
	require.Equal(t, 3, ending{tests: tests(0), end: func(int) int { return 3 }}.Run(), "what cannot be stopped fails too")
}
