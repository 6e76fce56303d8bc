// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
)

// exitWithParentVariable asks a component to end with the program that started it.
const exitWithParentVariable = "DEVPLANE_EXIT_WITH_STDIN"

// exitWithParent ends this process when its standard input does. A parent that
// holds the write end of that pipe thus takes its children with it however it
// dies, SIGKILL included, on every system; none of the components reads its
// standard input otherwise.
func exitWithParent() error {
	switch value := os.Getenv(exitWithParentVariable); value {
	case "", "0":
		return nil
	case "1":
		// Lives exactly as long as the process: there is nobody to wait for it.
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		return nil
	default:
		return fmt.Errorf("%s=%q: want 1, 0 or nothing", exitWithParentVariable, value)
	}
}
