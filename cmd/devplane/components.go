// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"text/tabwriter"

	// Zones for CronJobs, on machines that have no zone files.
	_ "time/tzdata"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// component is one program of the binary. run reads os.Args and returns the
// exit code; some components exit by themselves and never return.
type component struct {
	name string
	help string
	run  func() int
}

// components lists every program of the binary, in the order usage shows.
func components() []component {
	return []component{
		{"etcd", "the store", func() int { etcdmain.Main(os.Args); return 0 }},
		{"kube-apiserver", "the API", func() int { return cli.Run(apiserver.NewAPIServerCommand()) }},
		{
			"kube-controller-manager", "the built-in controllers (garbage collector, CSR signer, namespaces, ...)",
			func() int { return cli.Run(kcm.NewControllerManagerCommand()) },
		},
		{"kube-scheduler", "binds Pods to Nodes", func() int { return cli.Run(scheduler.NewSchedulerCommand()) }},
		{"kwok", "plays the kubelets: Nodes become Ready and Pods run; its stages are built in", runKwok},
		{"kubectl", "the client", runKubectl},
		{"etcd-snapshot", "save or restore etcd: save ENDPOINT FILE | restore FILE DATA-DIR PEER-URL", runSnapshot},
		{"version", "the versions of what is inside", runVersion},
	}
}

// find returns the component of that name, or nil.
func find(name string) *component {
	all := components()
	i := slices.IndexFunc(all, func(c component) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
	return 0
}

// runVersion prints the modules that the programs come from.
func runVersion() int {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(os.Stderr, "devplane version: this binary carries no build information; build it with Go modules")
		return 1
	}
	shown := []string{"k8s.io/kubernetes", "go.etcd.io/etcd/server/v3", "sigs.k8s.io/kwok"}
	fmt.Println("go", info.GoVersion)
	for _, module := range info.Deps {
		if slices.Contains(shown, module.Path) {
			fmt.Println(module.Path, module.Version)
		}
	}
	return 0
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, `devplane is real Kubernetes in one binary, for laptops and tests.

Usage:
  devplane COMPONENT [flags of that component]
  COMPONENT [flags]            through a symlink of that name to devplane

Components:
`)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range components() {
		fmt.Fprintf(table, "  %s\t%s\n", c.name, c.help)
	}
	_ = table.Flush()
	fmt.Fprintf(w, `
Environment:
  %s=1  end when standard input does: a component then never
                              outlives the program that holds the pipe to it

Try: devplane kube-apiserver --help
`, exitWithParentVariable)
}
