// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package aside keeps the stacks of long-lived goroutines small. A stack grows
// to what its deepest call needs and stays large: runtime shrinks it by half at
// a time, and never below four times what is in use. A session's goroutine that
// once called the apiserver would carry that for as long as the agent stays.
package aside

import (
	"fmt"
	"runtime/debug"
)

// Do calls f on a goroutine of its own, whose stack is given back, and returns
// when f has. A panic in f goes on in the caller, with where it was raised. It
// may be called at any time from anywhere.
func Do(f func()) {
	raised := make(chan any, 1)
	go func() {
		defer func() {
			value := recover()
			if value != nil {
				value = fmt.Sprintf("%v\n%s", value, debug.Stack())
			}
			raised <- value
		}()
		f()
	}()
	if value := <-raised; value != nil {
		panic(value) //nolint:forbidigo // it is f's panic, on its way to the recovery of the call
	}
}
