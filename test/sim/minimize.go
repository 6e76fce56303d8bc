// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Minimize looks for a smaller run that fails in the same way: with fewer
// troubles, fewer works and less time. run makes a run, in a bubble of its own.
func Minimize(failed Result, run func(Options) Result) Result {
	smallest := failed
	try := func(change func(*Options)) bool {
		options := smallest.Options
		options.Off = slices.Clone(options.Off)
		change(&options)
		result := run(options)
		if result.Failure == nil || result.Failure.Kind != failed.Failure.Kind || result.Failure.After > failed.Failure.After {
			return false
		}
		smallest = result
		return true
	}
	try(func(o *Options) { o.Trouble = smallest.Failure.After })
	for _, works := range []int{1, 2, 3, 5} {
		if try(func(o *Options) { o.Works = works }) {
			break
		}
	}
	for _, name := range Troubles() {
		try(func(o *Options) { o.Off = append(o.Off, name) })
	}
	for range 6 {
		if !try(func(o *Options) { o.Trouble = smallest.Failure.After * 2 / 3 }) {
			break
		}
	}
	return smallest
}

// Command is how to see this run again.
func (r Result) Command() string {
	var b strings.Builder
	fmt.Fprintf(&b, "go test ./test/sim -run TestSeeds -seed %d", r.Options.Seed)
	if r.Options.Trouble != 0 {
		fmt.Fprintf(&b, " -trouble %v", r.Options.Trouble.Round(time.Nanosecond))
	}
	if r.Options.Works != 0 {
		fmt.Fprintf(&b, " -works %d", r.Options.Works)
	}
	if len(r.Options.Off) > 0 {
		fmt.Fprintf(&b, " -off %s", strings.Join(r.Options.Off, ","))
	}
	return b.String()
}
