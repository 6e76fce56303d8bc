// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faultinject

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// variable holds point:n: the process ends when it passes the point for the n-th
// time.
const variable = "FAIRLEAD_FAULT_KILL"

// armed is what the environment says, read once.
var armed = read(os.Getenv(variable))

type trap struct {
	point Point
	left  atomic.Int64
}

// read panics on nonsense: a test that waits for a kill would wait in vain.
func read(text string) *trap {
	t := &trap{}
	if text == "" {
		return t
	}
	point, count, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		panic(fmt.Sprintf("%s=%q: want point:n, as in store:3", variable, text))
	}
	t.point = Point(point)
	t.left.Store(n)
	return t
}

// Pass says that the process is at a point. It may be called concurrently.
func Pass(p Point) {
	if p != armed.point || armed.left.Add(-1) != 0 {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // the signal is on its way
}
