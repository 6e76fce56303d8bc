// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package network runs the real hub and agents on real apiservers with a
// network between them that fails as told (test/netfault), agents that are killed
// and apiservers that refuse, and has the checker
// of test/netfault/check say what became of every key. All tests share a hub's
// and a spoke's apiserver and a hub that runs the controllers; each has clusters,
// agents and a hub replica of its own, so that what it breaks is its own.
package network

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/kubernetes"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault/check"
)

// parallel is how many tests run at once, at least.
const parallel = 4

// Made once for all tests of the package, and ended by TestMain.
var (
	dir      string
	binaries = sync.OnceValues(func() (house.Binaries, error) { return house.Build(context.Background(), dir, env.Race) })
	faulty   = sync.OnceValues(func() (string, error) { return house.BuildFaulty(context.Background(), dir, "hub", env.Race) })
	// mortal is an agent that ends at a failpoint. It is about kills, not about
	// races, and starts often: the race detector would only make it slow.
	mortal = sync.OnceValues(func() (string, error) { return house.BuildFaulty(context.Background(), dir, "agent", false) })
	spoke  = sync.OnceValues(startSpoke)
	shared = sync.OnceValues(func() (*hubSide, error) { return startHubSide("shared") })
	ending house.Endings
	runs   atomic.Int64 // of tests, for names
)

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "fairlead-network-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// They mostly wait for time to pass, more than two at once do no harm.
	if err := flag.Set("test.parallel", strconv.Itoa(max(parallel, runtime.GOMAXPROCS(0)))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	env.Verify(m, func(code int) int {
		ending.Run()
		if code == 0 {
			_ = os.RemoveAll(dir) // a temporary folder
		} else {
			fmt.Fprintf(os.Stderr, "the shared hub's log is in %s\n", dir)
		}
		return house.Untold(code)
	})
}

// spokeSide is the apiserver that all agents apply to, and its journal.
type spokeSide struct {
	plane   *env.Plane
	kube    kubernetes.Interface
	applied workclient.Interface
	journal *check.Journal
}

func startSpoke() (*spokeSide, error) {
	plane, err := env.Start(context.Background(), env.Options{Name: "spoke", NoAudit: true})
	if err != nil {
		return nil, err
	}
	ending.Add(plane.Stop)
	ending.Add(func() { house.Search(context.Background(), plane.RESTConfig()) })
	s := &spokeSide{plane: plane}
	var errs [3]error
	s.kube, errs[0] = kubernetes.NewForConfig(plane.RESTConfig())
	s.applied, errs[1] = workclient.NewForConfig(plane.RESTConfig())
	if errs[0] == nil {
		s.journal, errs[2] = check.NewJournal(context.Background(), s.kube)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	ending.Add(s.journal.Close)
	return s, nil
}

// hubSide is a hub's apiserver, the replica that runs the controllers, and the
// history of works.
type hubSide struct {
	plane    *env.Plane
	base     *house.Hub
	kube     kubernetes.Interface
	clusters clusterclient.Interface
	works    workclient.Interface
	history  *check.History
}

func startHubSide(name string) (*hubSide, error) {
	built, err := binaries()
	if err != nil {
		return nil, err
	}
	plane, err := env.Start(context.Background(), env.Options{Name: "hub", NoAudit: true})
	if err != nil {
		return nil, err
	}
	ending.Add(plane.Stop)
	ending.Add(func() { house.Search(context.Background(), plane.RESTConfig()) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	base, err := house.StartHub(ctx, house.HubConfig{Binaries: built, Dir: dir, Name: "hub-" + name, Kubeconfig: plane.Kubeconfig(), REST: plane.RESTConfig()})
	if err != nil {
		return nil, err
	}
	ending.Add(base.Kill)
	h := &hubSide{plane: plane, base: base}
	var errs [4]error
	h.kube, errs[0] = kubernetes.NewForConfig(plane.RESTConfig())
	h.clusters, errs[1] = clusterclient.NewForConfig(plane.RESTConfig())
	h.works, errs[2] = workclient.NewForConfig(plane.RESTConfig())
	if errs[2] == nil {
		h.history, errs[3] = check.NewHistory(context.Background(), h.works)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	ending.Add(h.history.Close)
	return h, nil
}
