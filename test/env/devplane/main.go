// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command devplane builds the devplane binary if this machine has not built it
// yet and prints its path. The Makefile calls it, so that the long compilation
// shows its progress before "go test" hides the output of passing packages.
//
// With -check it builds nothing and says whether the cache is warm or cold.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fairlead.dev/fairlead/test/env"
)

func main() {
	check := flag.Bool("check", false, "only say whether the cache is warm or cold")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(check bool) error {
	if check {
		path, warm, err := env.Warm()
		if err == nil {
			fmt.Printf("devplane cache: %s (%s)\n", map[bool]string{true: "warm", false: "cold"}[warm], path)
		}
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	path, err := env.Binary(ctx, os.Stderr)
	if err == nil {
		fmt.Println(path)
	}
	return err
}
