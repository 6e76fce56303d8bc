// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package world is what surrounds a hub that is measured: a real apiserver, the
// clusters in it, the certificates of their agents, and works to deliver. It
// writes to the apiserver as users do, and counts what others wrote.
package world

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
)

// writers is how many requests of one kind are under way at once.
const writers = 16

// World is a plane with clusters in it.
type World struct {
	Plane    *env.Plane
	Clusters []string

	client client.Client
	http   *http.Client
	config *rest.Config
	log    *slog.Logger
}

// Start starts etcd and an apiserver, without an audit log, which would cost the
// apiserver CPU that is not the hub's doing.
func Start(ctx context.Context, clusters int, log *slog.Logger) (*World, error) {
	plane, err := env.Start(ctx, env.Options{Name: "scale", NoAudit: true, CRDs: deploy.HubCRDs()})
	if err != nil {
		return nil, err
	}
	w := &World{Plane: plane, config: plane.RESTConfig(), log: log}
	w.config.QPS, w.config.Burst = -1, 0
	for i := range clusters {
		w.Clusters = append(w.Clusters, fmt.Sprintf("cluster-%04d", i))
	}
	scheme := runtime.NewScheme()
	if err := controller.AddToScheme(scheme); err != nil {
		return w, err
	}
	if w.http, err = rest.HTTPClientFor(w.config); err != nil {
		return w, err
	}
	w.client, err = client.NewWithWatch(w.config, client.Options{Scheme: scheme, HTTPClient: w.http})
	return w, err
}

// Stop stops the plane.
func (w *World) Stop() { w.Plane.Stop() }

// each calls f for every cluster, some at a time.
func (w *World) each(ctx context.Context, f func(ctx context.Context, i int, cluster string) error) error {
	return each(ctx, w.Clusters, f)
}

func each(ctx context.Context, clusters []string, f func(ctx context.Context, i int, cluster string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i, cluster := range clusters {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return f(ctx, i, cluster)
		})
	}
	return group.Wait()
}
