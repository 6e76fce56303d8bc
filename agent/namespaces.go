// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/agent/cluster"
	"fairlead.dev/fairlead/internal/wire"
)

// runNamespaces makes the namespaces that the hub asks for, once it is known
// which hub: their label is named after it.
func (a *Agent) runNamespaces(ctx context.Context) error {
	hubID, err := a.hubID.wait(ctx)
	if err != nil {
		return err
	}
	spaces := cluster.NewNamespaces(cluster.NamespacesConfig{
		Kube: a.spoke.kube, Label: cluster.NamespaceLabel(hubID), Wanted: a.wantedNamespaces, Released: a.dropConfig,
		Log: a.log.With("room", "cluster"), Clock: clock.RealClock{}, Period: a.cfg.ClusterPeriod, Changed: a.reportCluster,
		Event: func(ctx context.Context, why, note string) { a.spokeEvent(ctx, corev1.EventTypeNormal, why, note) },
	})
	a.spaces.Store(spaces)
	return spaces.Run(ctx)
}

// config is what the hub wants beside works; known is false when it has not said,
// or when what it said asks for nothing and was dealt with.
func (a *Agent) config() (config wire.ClusterConfig, revision wire.Revision, known bool) {
	object, ok, err := a.store.Get(wire.ConfigKey())
	if err == nil && ok && object.Content != nil {
		config, err = wire.DecodeConfig(object.Content)
	}
	if err != nil {
		a.log.Error("the stored configuration of the cluster cannot be read; its namespaces stay as they are", "error", err)
	}
	return config, object.Revision, ok && err == nil && object.Content != nil
}

func (a *Agent) wantedNamespaces() (names []string, known bool) {
	config, _, known := a.config()
	return config.ManagedNamespaces, known
}

// dropConfig forgets a configuration that asks for nothing.
func (a *Agent) dropConfig(ctx context.Context) error {
	config, revision, known := a.config()
	if !known || !config.IsZero() {
		return nil
	}
	return a.store.Drop(ctx, wire.ConfigKey(), revision)
}

// leaveNamespaces has the hub that removed this cluster manage no namespaces here
// any more.
func (a *Agent) leaveNamespaces(ctx context.Context) {
	if config, _, known := a.config(); !known || config.IsZero() {
		return
	}
	revision, raw := wire.ClusterConfig{}.Encode()
	if err := a.store.Put(ctx, wire.ConfigKey(), revision, raw); err != nil {
		a.log.Error("the namespaces of the hub's cluster sets keep their label; the next refusal of the hub tries again", "error", err)
	}
}
