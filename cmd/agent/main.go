// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command agent runs on a spoke: `agent run` keeps a session with the hub and
// what the hub delivered in place. It reads flags into an agent.Config and runs
// it; nothing is decided here.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "agent: %v\n", err)
		os.Exit(1)
	}
}
