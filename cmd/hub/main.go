// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command hub runs the hub: `hub serve` takes sessions from agents and people's
// requests, in front of a Kubernetes apiserver that holds everything it knows.
// It reads flags into a server.Config and runs it; nothing is decided here.
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
		fmt.Fprintf(os.Stderr, "hub: %v\n", err)
		os.Exit(1)
	}
}
