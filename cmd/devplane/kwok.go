// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodeheartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"
)

// runKwok runs kwok; without --config it uses the stages that kwok's own module
// embeds, since kwok refuses to start without any.
func runKwok() int {
	stages, err := builtinStages(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "devplane kwok:", err)
		return 1
	}
	if stages != "" {
		os.Args = append(os.Args, "--config="+stages)
	}

	// The Kubernetes components register flags of theirs in the global set, which
	// cobra adds to every root command; kwok has a --version of its own.
	pflag.CommandLine = pflag.NewFlagSet("kwok", pflag.ContinueOnError)
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	ctx, logger := log.InitFlags(signals.SetupSignalContext(), flags)
	ctx, err = config.InitFlags(ctx, flags)
	if stages != "" {
		_ = os.Remove(stages) // read by now
	}
	if err != nil {
		logger.Error("reading kwok's flags and configuration", "err", err)
		return 1
	}
	command := kwok.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(flags)
	if err := command.ExecuteContext(ctx); err != nil {
		logger.Error("kwok ended", "err", err)
		return 1
	}
	return 0
}

// builtinStages writes kwok's embedded stages to a temporary file and returns
// its path, or "" if args name a configuration already.
func builtinStages(args []string) (string, error) {
	named := func(arg string) bool {
		return arg == "-c" || arg == "--config" || strings.HasPrefix(arg, "--config=") || strings.HasPrefix(arg, "-c=")
	}
	if slices.ContainsFunc(args, named) {
		return "", nil
	}
	file, err := os.CreateTemp("", "devplane-kwok-stages-*.yaml")
	if err != nil {
		return "", fmt.Errorf("making a file for kwok's built-in stages (is TMPDIR writable?): %w", err)
	}
	_, err = file.WriteString(strings.Join([]string{
		nodefast.DefaultNodeInit,
		nodeheartbeat.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady,
		podfast.DefaultPodComplete,
		podfast.DefaultPodDelete,
	}, "\n---\n"))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", fmt.Errorf("writing kwok's built-in stages to %q: %w", file.Name(), err)
	}
	return file.Name(), nil
}
