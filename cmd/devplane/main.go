// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command devplane is real Kubernetes in one multi-call binary: etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and kwok,
// chosen by the first argument or by the name it is called by (a symlink).
//
// It lets laptops and tests run control planes without Docker, without root and
// without downloading binaries: everything in it comes from Go modules. It is a
// module of its own, so that none of it reaches the hub or the agent, and it
// knows nothing of Fairlead. Package test/env builds it and starts planes of it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := exitWithParent(); err != nil {
		fmt.Fprintln(os.Stderr, "devplane:", err)
		os.Exit(2)
	}
	// Called by a component's name, as through a symlink "kubectl".
	if c := find(filepath.Base(os.Args[0])); c != nil {
		os.Exit(c.run())
	}
	if len(os.Args) < 2 {
		printUsage(os.Stderr)
		os.Exit(2)
	}
	switch name := os.Args[1]; name {
	case "help", "-h", "--help":
		printUsage(os.Stdout)
	default:
		c := find(name)
		if c == nil {
			fmt.Fprintf(os.Stderr, "devplane: there is no component %q in this binary\n\n", name)
			printUsage(os.Stderr)
			os.Exit(2)
		}
		// The components read os.Args themselves, as if they were called alone.
		os.Args = os.Args[1:]
		os.Exit(c.run())
	}
}
