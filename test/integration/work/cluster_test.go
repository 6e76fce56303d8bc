// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/test/env"
)

// TestOnARunningCluster has all of a cluster's controllers at work on what is applied: they fill in fields, scale, write statuses,
// collect garbage and empty namespaces.
func TestOnARunningCluster(t *testing.T) {
	t.Parallel()
	plane := env.StartPlane(t, env.Options{
		Name: "work-cluster", CRDs: deploy.SpokeCRDs(), ControllerManager: true, Scheduler: true, Kwok: true, Nodes: 2,
	})
	b := newBenchOn(t, plane.RESTConfig())
	proxy, behind := b.behind()
	e := b.start(behind)
	inNew := func(text string) string { return strings.ReplaceAll(text, "NS", "NS-app") }
	manifests := []string{
		inNew(webDeployment), inNew(webService), inNew(configMap("c", "k: v")),
		`{apiVersion: batch/v1, kind: Job, metadata: {name: job, namespace: NS-app}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`,
		`{apiVersion: v1, kind: Namespace, metadata: {name: NS-app}}`,
	}
	rule := b.rule(deployments, "web", wellKnown)
	rule.ResourceIdentifier.Namespace = b.ns + "-app"
	b.apply(e, b.work("web", manifests, withConfig(rule)))
	b.waitReport("web", func(r work.Report) bool {
		return fmt.Sprint(values(manifest(t, r, "web"))) == "[ReadyReplicas=2 Replicas=2 AvailableReplicas=2]"
	})
	proxy.ResetCounts()
	app := b.inNamespace(b.ns + "-app")
	app.edit(deployments, "web", `{spec: {template: {metadata: {annotations: {kubectl.kubernetes.io/restartedAt: now}}}}}`)
	b.passes(e, "web", 3)
	require.Zero(t, proxy.Count(writes()), "what controllers and rollouts add is left alone: %v", proxy.Calls())
	require.Equal(t, "now", field(app.get(deployments, "web"), "spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"))

	scaled := strings.Replace(manifests[0], "replicas: 2", "replicas: 3", 1)
	b.apply(e, b.work("web", append([]string{scaled}, manifests[1:]...), withConfig(rule), generation(2)))
	b.waitReport("web", func(r work.Report) bool {
		return fmt.Sprint(values(manifest(t, r, "web"))) == "[ReadyReplicas=3 Replicas=3 AvailableReplicas=3]"
	})
	app.delete(deployments, "web") // its pods are collected, and the deployment comes back
	b.waitReport("web", func(r work.Report) bool {
		return r.Status != nil && !meta.IsStatusConditionFalse(r.Status.Conditions, "Available")
	})
	app.eventually(func() error {
		if names := app.names("deployments"); len(names) != 1 {
			return fmt.Errorf("the deployments are %v", names)
		}
		return nil
	})

	b.remove(e, "web")
	require.False(t, b.exists(namespaces, b.ns+"-app"), "the namespace is empty and gone")
	require.False(t, b.exists(inventories, b.inventoryName("web")))
}
