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
	"sync"
)

// Call calls f on a goroutine of its own, whose stack is given back, and returns
// what f returns, when it does. A panic in f goes on in the caller, with where it
// was raised. It may be called at any time from anywhere.
func Call[T any](f func() (T, error)) (result T, err error) {
	var raised any
	var call sync.WaitGroup
	call.Go(func() {
		defer func() {
			if value := recover(); value != nil {
				raised = fmt.Sprintf("%v\n%s", value, debug.Stack())
			}
		}()
		result, err = f()
	})
	call.Wait()
	if raised != nil {
		panic(raised) //nolint:forbidigo // it is f's panic, on its way to the recovery of the call
	}
	return result, err
}
