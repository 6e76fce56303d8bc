// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"slices"
	"sync"
)

// Endings are what the tests of a package share and TestMain ends after them. The
// zero value is ready.
type Endings struct {
	mu  sync.Mutex
	all []func()
}

// Add has end called by Run. It may be called by several tests at once.
func (e *Endings) Add(end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, end)
}

// Run ends all, last things first, once no test runs any more that uses them. What
// is added after it is for the next Run.
func (e *Endings) Run() {
	e.mu.Lock()
	all := e.all
	e.all = nil
	e.mu.Unlock()
	for _, end := range slices.Backward(all) {
		end()
	}
}
