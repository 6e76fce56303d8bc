// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command fairlead is the CLI for people: it registers clusters, sends work to
// them and says why a thing is not there yet. It is a kubectl plugin too, when
// it is called kubectl-fairlead, and completes as one when it is called
// kubectl_complete-fairlead.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	options := &cli.Options{}
	options.Streams()
	root := newRoot(options)
	name, args := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"), os.Args[1:]
	root.SetArgs(calledAs(root, name, args))
	err := root.ExecuteContext(ctx)
	code := cli.Report(os.Stderr, err, ctx.Err() != nil)
	stop()
	os.Exit(code)
}
