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

func TestOnARunningCluster(t *testing.T) {
	t.Parallel()
	plane := env.StartPlane(t, env.Options{
		Name: "work-cluster", CRDs: deploy.SpokeCRDs(), ControllerManager: true, Scheduler: true, Kwok: true, Nodes: 2,
	})
	t.Run("controllers_at_work", func(t *testing.T) { controllersAtWork(newBenchOn(t, plane.RESTConfig())) })
	t.Run("MW-74_rights_of_the_agent", func(t *testing.T) { agentRights(newBenchOn(t, plane.RESTConfig()), plane) })
}

// controllersAtWork has all of a cluster's controllers at work on what is applied: they fill in fields, scale, write statuses,
// collect garbage and empty namespaces.
func controllersAtWork(b *bench) {
	t := b.t
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
	require.Zero(t, proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"deployments", "services", "configmaps", "jobs", "namespaces"}}), "what controllers and rollouts add is left alone: %v", proxy.Calls())
	require.Equal(t, "now", field(app.get(deployments, "web"), "spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"))

	scaled := strings.Replace(manifests[0], "replicas: 2", "replicas: 3", 1)
	b.apply(e, b.work("web", append([]string{scaled}, manifests[1:]...), withConfig(rule), generation(2)))
	b.waitReport("web", func(r work.Report) bool {
		return fmt.Sprint(values(manifest(t, r, "web"))) == "[ReadyReplicas=3 Replicas=3 AvailableReplicas=3]"
	})
	b.waitReport("web", func(r work.Report) bool { // the Job may be at it still
		return meta.IsStatusConditionFalse(manifest(t, r, "web").Conditions, "Progressing")
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

// agentRights has an agent with the rights that it is installed with.
func agentRights(b *bench, plane *env.Plane) {
	t := b.t
	for _, doc := range deploy.AgentManifests() {
		b.create("installer", string(doc))
	}
	b.create("", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS}, `+
		`roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "open-cluster-management:fairlead:agent:workloads"}, `+
		`subjects: [{kind: ServiceAccount, name: fairlead-agent, namespace: open-cluster-management-agent}]}`)
	config, err := plane.TokenConfig(t.Context(), "open-cluster-management-agent", "fairlead-agent")
	require.NoError(t, err)
	e := b.start(func(c *work.Config) { c.REST, c.ExecutorCache = config, true })

	more := func(name, rules string) {
		b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: NS-"+name+
			", labels: {open-cluster-management.io/aggregate-to-work: 'true'}}, rules: ["+rules+"]}")
	}
	class := `{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: NS}, provisioner: example.com/none}`
	b.deliver(e, b.work("web", []string{configMap("c", "k: v"), class}))
	b.waitApplied("web", "c", "True") // once the right is known
	b.waitApplied("web", b.ns, "False AppliedManifestFailed Failed to apply manifest: ", `storageclasses.storage.k8s.io "NS" is forbidden: User "system:serviceaccount:open-cluster-management-agent:fairlead-agent" cannot get`)
	more("storage", "{apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [get, list, watch, create, update, patch, delete]}")
	b.waitApplied("web", b.ns, "True AppliedManifestComplete")

	// What the agent may grant by now, an executor still may not.
	onRoles := "{apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [get, list, watch, create, update, patch, delete"
	more("roles", onRoles+", escalate]}")
	b.grant("app", onRoles+"]}, "+onConfigMaps(allVerbs))
	role := func(name, on string) string {
		return "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: " + name + ", namespace: NS}, rules: [{apiGroups: [''], resources: [" + on + "], verbs: [get]}]}"
	}
	b.deliver(e, b.work("team", []string{configMap("d", "k: v"), role("less", "configmaps"), role("more", "secrets")}, b.asAccount("app")))
	b.waitApplied("team", "d", "True")
	b.waitApplied("team", "less", "True")
	b.waitApplied("team", "more", "may not grant what it grants", "system:serviceaccount:NS:app")
	b.deliver(e, b.work("own", []string{role("more", "secrets")}))
	b.waitApplied("own", "more", "True")
	for _, name := range []string{"web", "team", "own"} {
		b.remove(e, name)
	}
}
