// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kueue has MultiKueue use the clusters that a Placement chose: one MultiKueueCluster for each, which points at
// its ClusterProfile, and a MultiKueueConfig that lists them. What it did not make itself it neither changes nor deletes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

const (
	ours    = "example.fairlead.dev/placement" // marks what this program made, with the Placement's name
	version = "kueue.x-k8s.io/v1beta2"
	most    = 20 // clusters that a MultiKueueConfig can have
)

type syncer struct {
	kube                         client.Client
	namespace, placement, config string
}

func main() {
	kubeconfig, namespace := flag.String("kubeconfig", "", "file with the hub's kubeconfig; default the pod's own"), flag.String("namespace", "kueue-system", "Kueue's namespace, where the Placement is")
	placement, config := flag.String("placement", "multikueue", "the Placement"), flag.String("config", "multikueue", "the MultiKueueConfig")
	every, once := flag.Duration("every", 10*time.Second, "how often decisions are read"), flag.Bool("once", false, "read them once, and end")
	flag.Parse()
	s := syncer{namespace: *namespace, placement: *placement, config: *config}
	if err := s.run(context.Background(), *kubeconfig, *every, *once); err != nil {
		slog.Error("the program ends", "error", err)
		os.Exit(1)
	}
}

func (s *syncer) run(ctx context.Context, kubeconfig string, every time.Duration, once bool) error {
	scheme := runtime.NewScheme()
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err = errors.Join(err, clusterv1beta1.Install(scheme)); err != nil {
		return err
	}
	if s.kube, err = client.New(rest, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	for ticker := time.NewTicker(every); ; <-ticker.C {
		err := s.sync(ctx)
		if once {
			return err
		}
		if err != nil {
			slog.Error("the clusters are not those of the decisions yet", "placement", s.placement, "error", err)
		}
	}
}

// sync writes in an order in which the config never names a cluster that is not there.
func (s *syncer) sync(ctx context.Context) error {
	chosen, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	for _, name := range chosen {
		cluster := s.object("MultiKueueCluster", name)
		cluster.Object["spec"] = map[string]any{"clusterSource": map[string]any{"clusterProfileRef": map[string]any{"name": name}}}
		if err := s.kube.Create(ctx, cluster); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating MultiKueueCluster %q: %w", name, err)
		}
	}
	if len(chosen) > 0 { // the list cannot be empty: for no clusters there is no config, and Kueue admits nothing
		if err := s.configure(ctx, chosen); err != nil {
			return fmt.Errorf("MultiKueueConfig %q: %w", s.config, err)
		}
	} else if err := s.clean(ctx, "MultiKueueConfig", nil, client.MatchingFields{"metadata.name": s.config}); err != nil {
		return err
	}
	return s.clean(ctx, "MultiKueueCluster", chosen)
}

// chosen are the clusters of all decisions. Without any decision, or while one says nothing, nobody has decided yet.
func (s *syncer) chosen(ctx context.Context) ([]string, error) {
	list := &clusterv1beta1.PlacementDecisionList{}
	if err := s.kube.List(ctx, list, client.InNamespace(s.namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: s.placement}); err != nil {
		return nil, fmt.Errorf("listing the decisions of Placement %q: %w", s.placement, err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("placement %q has no PlacementDecision: is there one, and does the hub run?", s.placement)
	}
	var names []string
	for _, item := range list.Items {
		if item.Status.Decisions == nil { // [] would choose nobody
			return nil, fmt.Errorf("PlacementDecision %q has no status yet", item.Name)
		}
		for _, decision := range item.Status.Decisions {
			names = append(names, decision.ClusterName)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > most {
		return nil, fmt.Errorf("placement %q chose %d clusters, a MultiKueueConfig takes %d: set its numberOfClusters", s.placement, len(names), most)
	}
	return names, nil
}

func (s *syncer) configure(ctx context.Context, chosen []string) error {
	config := s.object("MultiKueueConfig", s.config)
	_, err := controllerutil.CreateOrUpdate(ctx, s.kube, config, func() error {
		if config.GetLabels()[ours] != s.placement {
			return fmt.Errorf("it was made by somebody else: delete it, or label it %s=%s", ours, s.placement)
		}
		return unstructured.SetNestedStringSlice(config.Object, chosen, "spec", "clusters")
	})
	return err
}

// clean deletes what this program made and nobody needs any more, as it was read and nothing that took its name since.
func (s *syncer) clean(ctx context.Context, kind string, needed []string, which ...client.ListOption) error {
	made := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": version, "kind": kind + "List"}}
	err := s.kube.List(ctx, made, append(which, client.MatchingLabels{ours: s.placement})...)
	for _, object := range made.Items {
		if uid := object.GetUID(); !slices.Contains(needed, object.GetName()) {
			err = errors.Join(err, s.kube.Delete(ctx, &object, client.Preconditions{UID: &uid}))
		}
	}
	return err
}

func (s *syncer) object(kind, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": name, "labels": map[string]any{ours: s.placement}},
	}}
}
