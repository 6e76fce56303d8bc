// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/scale/stat"
)

const (
	writers = 40
	look    = 500 * time.Millisecond
	// quiet is how long nothing is written before all is taken to be decided.
	quiet = 3 * time.Second
)

// requests counts what the controllers ask of the apiserver.
type requests struct{ reads, decisions, others atomic.Int64 }

// wrap has a client's requests counted.
func (r *requests) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		switch {
		case request.Method == http.MethodGet:
			r.reads.Add(1)
		case strings.Contains(request.URL.Path, "/placementdecisions"):
			r.decisions.Add(1)
		default:
			r.others.Add(1)
		}
		return next.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// loop is the real controller of placements, against a real apiserver.
type loop struct {
	kube     client.Client
	asked    *requests
	clusters int
	text     bytes.Buffer
}

// runLoop measures a full reschedule and single changes, and gives a table.
func runLoop(ctx context.Context, clusters, placements, changes int) (string, error) {
	ctrllog.SetLogger(logr.Discard())
	plane, err := env.Start(ctx, env.Options{Name: "choose", NoAudit: true, CRDs: deploy.HubCRDs()})
	if err != nil {
		return "", err
	}
	defer plane.Stop()
	scheme := runtime.NewScheme()
	if err := controller.AddToScheme(scheme); err != nil {
		return "", err
	}
	cfg := plane.RESTConfig()
	cfg.QPS = -1
	l := &loop{asked: &requests{}, clusters: clusters}
	if l.kube, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		return "", err
	}
	began := time.Now()
	if err := l.furnish(ctx, placements); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "%d clusters and %d placements are made (%s)\n", clusters, placements, time.Since(began).Round(time.Second))
	counted := rest.CopyConfig(cfg)
	counted.Wrap(transport.WrapperFunc(l.asked.wrap))
	end, err := l.start(ctx, counted, scheme)
	if err != nil {
		return "", err
	}
	err = l.measure(ctx, placements, changes)
	return l.text.String(), errors.Join(err, end())
}

// furnish makes a set of all clusters, bound to the namespaces of the placements.
func (l *loop) furnish(ctx context.Context, placements int) error {
	if err := l.kube.Create(ctx, &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: set}}); err != nil {
		return err
	}
	for i := range namespaces {
		name := fmt.Sprintf("apps-%d", i)
		binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: set}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: set}}
		err := errors.Join(l.kube.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}), l.kube.Create(ctx, binding))
		if err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i := range l.clusters {
		group.Go(func() error {
			cluster := newCluster(i)
			status := cluster.Status
			if err := l.kube.Create(ctx, cluster); err != nil {
				return err
			}
			cluster.Status = status
			cluster.Status.Conditions = []metav1.Condition{} // the kind wants a list
			return l.kube.Status().Update(ctx, cluster)
		})
	}
	for i := range placements {
		group.Go(func() error { return l.kube.Create(ctx, newPlacement(i)) })
	}
	return group.Wait()
}

// start runs the controller alone; what it returns ends it.
func (l *loop) start(ctx context.Context, cfg *rest.Config, scheme *runtime.Scheme) (end func() error, err error) {
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return nil, err
	}
	selected, err := controller.Select("placement")
	if err != nil {
		return nil, err
	}
	if err := controller.Add(mgr, controller.Deps{Log: slog.New(slog.DiscardHandler)}, selected); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return mgr.Start(ctx) })
	return func() error { stop(); return group.Wait() }, nil
}

// figures are what one step cost.
type figures struct {
	took, cpu                time.Duration
	reads, decisions, others int64
}

// step does something and waits until the controllers wrote nothing for a while;
// that while is not in took, and what they used of the CPU in it is.
func (l *loop) step(ctx context.Context, do func() error, done func() (bool, error)) (f figures, err error) {
	cpu, err := stat.ReadCPU(os.Getpid())
	if err != nil {
		return f, err
	}
	reads, decisions, others := l.asked.reads.Load(), l.asked.decisions.Load(), l.asked.others.Load()
	began := time.Now()
	if err := do(); err != nil {
		return f, err
	}
	last, at := decisions+others, began
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for ready := false; !ready || time.Since(at) < quiet; {
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case <-ticker.C:
		}
		if written := l.asked.decisions.Load() + l.asked.others.Load(); written != last {
			last, at = written, time.Now()
		}
		if !ready {
			if ready, err = done(); err != nil {
				return f, err
			}
		}
	}
	now, err := stat.ReadCPU(os.Getpid())
	return figures{at.Sub(began), now - cpu, l.asked.reads.Load() - reads, l.asked.decisions.Load() - decisions, l.asked.others.Load() - others}, err
}

func (l *loop) measure(ctx context.Context, placements, changes int) error {
	fmt.Fprint(&l.text, "| what | took | CPU of the controller | reads | writes of decisions | other writes |\n| --- | --- | --- | --- | --- | --- |\n")
	full, err := l.step(ctx, func() error { return nil }, func() (bool, error) { return l.decided(ctx, placements) })
	if err != nil {
		return err
	}
	l.print(fmt.Sprintf("%d clusters and %d placements are read, and all of these decided for the first time", l.clusters, placements), full, 1)
	idle, err := l.step(ctx, func() error { return nil }, func() (bool, error) { return true, nil })
	if err != nil {
		return err
	}
	l.print("nothing changes", idle, 1)
	for _, change := range []struct{ what, label string }{
		{"a label changes that no placement asks for", "vendor"}, {"a label changes, and the cluster leaves some placements for others", "cell"},
	} {
		var sum figures
		for i := range changes {
			f, err := l.step(ctx, func() error { return l.relabel(ctx, i*(l.clusters/changes), change.label) }, func() (bool, error) { return true, nil })
			if err != nil {
				return err
			}
			sum = figures{sum.took + f.took, sum.cpu + f.cpu, sum.reads + f.reads, sum.decisions + f.decisions, sum.others + f.others}
		}
		l.print(change.what, sum, changes)
	}
	return nil
}

func (l *loop) relabel(ctx context.Context, i int, key string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:"cell-%d"}}}`, key, (i+7)%20)
	return l.kube.Patch(ctx, &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: "cluster.open-cluster-management.io/v1", Kind: "ManagedCluster"}, ObjectMeta: metav1.ObjectMeta{Name: newCluster(i).Name},
	}, client.RawPatch("application/merge-patch+json", []byte(patch)))
}

// decided tells whether all placements say that they are.
func (l *loop) decided(ctx context.Context, placements int) (bool, error) {
	list := &clusterv1beta1.PlacementList{}
	if err := l.kube.List(ctx, list); err != nil {
		return false, err
	}
	n := 0
	for i := range list.Items {
		if meta.FindStatusCondition(list.Items[i].Status.Conditions, clusterv1beta1.PlacementConditionSatisfied) != nil {
			n++
		}
	}
	return n == placements, nil
}

func (l *loop) print(what string, f figures, times int) {
	n := time.Duration(times)
	began := l.text.Len()
	defer func() { _, _ = os.Stderr.Write(l.text.Bytes()[began:]) }() // so that one sees how far it is
	each := func(count int64) string {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(count)/float64(times)), ".0")
	}
	fmt.Fprintf(&l.text, "| %s | %s | %s | %s | %s | %s |\n", what, (f.took / n).Round(10*time.Millisecond), (f.cpu / n).Round(time.Millisecond), each(f.reads), each(f.decisions), each(f.others))
}
