// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// Verify is the body of a TestMain whose tests start processes, or share what
// has to be stopped after the last of them. It runs the tests, has end stop what
// they shared, and exits with the code that end makes of theirs. After tests that
// passed, two more things fail the run, with their stacks: a goroutine that is
// left, and what the race detector said in a process that a test started.
func Verify(m *testing.M, end func(code int) int) {
	goleak.VerifyTestMain(ending{tests: m, end: end})
}

// ending are tests and what comes after them, before leaks are looked for.
type ending struct {
	tests interface{ Run() int }
	end   func(code int) int
}

// Run is for goleak.
func (e ending) Run() int {
	races, err := watchRaces()
	code := e.end(e.tests.Run())
	if err == nil {
		err = races.verdict()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// raceFolder is where processes that this one starts report races: their
// standard error may be read by nobody, and they may be killed before they end.
type raceFolder string

// watchRaces sets how the race detector works in processes to come; in this one
// it has read its options.
func watchRaces() (raceFolder, error) {
	dir, err := os.MkdirTemp("", "fairlead-races-")
	if err != nil {
		return "", err
	}
	return raceFolder(dir), os.Setenv("GORACE", "log_exe_name=1 atexit_sleep_ms=0 log_path="+filepath.Join(dir, "race"))
}

// verdict is an error with all reports, if there are any.
func (f raceFolder) verdict() error {
	reports, err := filepath.Glob(filepath.Join(string(f), "*"))
	errs := []error{err}
	for _, report := range reports {
		text, err := os.ReadFile(report)
		errs = append(errs, err, fmt.Errorf("%s, which a test started:\n%s", filepath.Base(report), text)) //nolint:err113 // it is for people
	}
	return errors.Join(append(errs, os.RemoveAll(string(f)))...)
}
