// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

var spokeNames = []string{"spoke-1", "spoke-2"}

// spoke is one managed cluster: a plane, its agent, and a client to look at it.
type spoke struct {
	name  string
	plane *env.Plane
	kube  kubernetes.Interface
	join  string
	agent *house.Agent
}

// demo is the world of one run.
type demo struct {
	began time.Time
	keep  bool
	count int

	dir      string
	binaries house.Binaries
	plane    *env.Plane // the hub's
	hub      *house.Hub
	clusters clusterclient.Interface
	works    workclient.Interface
	spokes   []*spoke
}

// step runs one step under its title and says how long it took.
func (d *demo) step(ctx context.Context, title string, do func(context.Context) error) error {
	d.count++
	fmt.Printf("\n%2d. %s\n", d.count, title)
	began := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("step %d, %q: %w", d.count, title, err)
	}
	fmt.Printf("    %s  (at %s)\n", dim(time.Since(began).Round(10*time.Millisecond).String()), time.Since(d.began).Round(100*time.Millisecond))
	return nil
}

func dim(text string) string { return "took " + text }

// sayf prints one fact, indented.
func sayf(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }

// show prints what a user would see of the CLI.
func (d *demo) show(ctx context.Context, args ...string) error {
	out, err := d.hub.CLI(ctx, args...)
	if err != nil {
		return err
	}
	fmt.Printf("    $ fairlead %s\n", strings.Join(args, " "))
	for line := range strings.Lines(out) {
		fmt.Print("      ", line)
	}
	return nil
}

func (d *demo) startPlanes(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "fairlead-demo-")
	if err != nil {
		return err
	}
	d.dir = dir
	if _, err := env.Binary(ctx, os.Stderr); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		d.binaries, err = house.Build(ctx, dir, false)
		return err
	})
	group.Go(func() (err error) {
		d.plane, err = env.Start(ctx, env.Options{Name: "hub"})
		return err
	})
	d.spokes = make([]*spoke, len(spokeNames))
	for i, name := range spokeNames {
		group.Go(func() error {
			plane, err := env.Start(ctx, env.Options{Name: name, ControllerManager: true, Scheduler: true, Kwok: true, Nodes: 2})
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(plane.RESTConfig())
			d.spokes[i] = &spoke{name: name, plane: plane, kube: client}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return d.describePlanes(ctx)
}

func (d *demo) describePlanes(context.Context) error {
	hub, err := kubernetes.NewForConfig(d.plane.RESTConfig())
	if err != nil {
		return err
	}
	version, err := hub.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	sayf("hub: Kubernetes %s at %s", version.GitVersion, d.plane.RESTConfig().Host)
	for _, s := range d.spokes {
		nodes, err := s.kube.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		sayf("%s: Kubernetes at %s with %d nodes", s.name, s.plane.RESTConfig().Host, len(nodes.Items))
	}
	d.clusters, err = clusterclient.NewForConfig(d.plane.RESTConfig())
	if err != nil {
		return err
	}
	d.works, err = workclient.NewForConfig(d.plane.RESTConfig())
	return err
}

// close ends everything, unless it is to be kept and all went well.
func (d *demo) close(failed bool) {
	if d.keep && !failed {
		return
	}
	for _, s := range d.spokes {
		if s != nil && s.agent != nil {
			_, _ = s.agent.Stop() // what does not stop is killed, and the demo has said what it had to
		}
	}
	if d.hub != nil && d.hub.Process != nil {
		_, _ = d.hub.Stop()
	}
	for _, s := range d.spokes {
		if s != nil {
			s.plane.Stop()
		}
	}
	if d.plane != nil {
		d.plane.Stop()
	}
	if failed {
		fmt.Fprintf(os.Stderr, "\nLogs of hub and agents: %s\n", d.dir)
		return
	}
	_ = os.RemoveAll(d.dir) // a temporary folder
}

// leave waits with everything running until the person ends it.
func (d *demo) leave(ctx context.Context) error {
	flags, err := d.hub.CLIFlags(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nIt goes on running until you press Ctrl-C. In another terminal:\n\n")
	fmt.Printf("  alias fairlead='%s %s'\n", d.binaries.CLI, strings.Join(flags, " "))
	fmt.Printf("  fairlead get clusters\n  fairlead create work hello --clusters spoke-1,spoke-2 -f test/demo/manifests\n  fairlead get works -w\n\n")
	fmt.Printf("  kubectl is «%s kubectl» here:\n", mustBinary(ctx))
	fmt.Printf("  hub:     KUBECONFIG=%s\n", d.plane.Kubeconfig())
	for _, s := range d.spokes {
		fmt.Printf("  %s: KUBECONFIG=%s\n", s.name, s.plane.Kubeconfig())
	}
	fmt.Printf("  logs:    %s\n", d.dir)
	<-ctx.Done()
	d.keep = false // now it ends
	return nil
}

func mustBinary(ctx context.Context) string {
	path, err := env.Binary(ctx, io.Discard)
	if err != nil {
		return "devplane"
	}
	return path
}
