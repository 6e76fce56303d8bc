// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
)

const webDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS, creationTimestamp: null}
spec:
  replicas: 2
  paused: false
  selector: {matchLabels: {app: web}}
  strategy: {}
  template:
    metadata: {labels: {app: web}, creationTimestamp: null}
    spec:
      containers:
      - name: web
        image: registry.example/web:1
        ports: [{containerPort: 8080}]
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        resources: {requests: {memory: 1024Mi, cpu: 0.5}}
status: {}`

const webService = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: NS}, spec: {selector: {app: web}, ports: [{port: 80}]}}`

func TestWork(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-03_applied_manifest_work":    appliedManifestWork,
		"MW-05_labels_copied_once":       labelsCopiedOnce,
		"MW-65_agent_id":                 agentID,
		"MW-06_long_name":                longName,
		"MW-07_kind_order":               kindOrder,
		"MW-08_MW-09_resource_meta":      resourceMeta,
		"MW-10_crd_and_cr_converge":      crdAndCR,
		"MW-10_kind_comes_later":         kindComesLater,
		"MW-11_one_failure":              oneFailure,
		"MW-10_many_crds_and_crs":        manyCRDs,
		"MW-67_nested_work":              nestedWork,
		"T18_slow_spoke":                 slowSpoke,
		"T23_long_error":                 longError,
		"T77_killed_at_each_write":       killedAtEachWrite,
		"T78_spoke_takes_no_writes":      noWrites,
		"MW-20_update_custom_resource":   updateCustomResource,
		"MW-20_update_removes_fields":    updateRemovesFields,
		"MW-21_foreign_metadata_stays":   foreignMetadata,
		"MW-22_key_with_a_dash":          keyWithADash,
		"MW-23_uid_and_version_ignored":  spokeMetadataIgnored,
		"MW-24_field_manager":            fieldManager,
		"MW-26_owner_reference":          ownerReference,
		"MW-27_shared_object":            sharedObject,
		"secret_string_data":             secretStringData,
		"adopts_what_updates_made":       adoptsUpdates,
		"same_resource_twice":            sameResourceTwice,
		"T20_bad_manifests_among_others": badManifests,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

func appliedManifestWork(b *bench) {
	t := b.t
	e := b.start(func(c *work.Config) { c.AgentID = "agent-7" })
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))

	applied := b.appliedWork("web")
	require.Equal(t, workv1.AppliedManifestWorkSpec{HubHash: b.hub, AgentID: "agent-7", ManifestWorkName: "web"}, applied.Spec)
	require.Contains(t, applied.Finalizers, "cluster.open-cluster-management.io/applied-manifest-work-cleanup")
	require.Equal(t, b.hub+"-web", applied.Name)
}

func agentID(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	require.Equal(t, b.hub, b.appliedWork("web").Spec.AgentID, "the hub's hash, unless it was given one")
	e.stop()
	e = b.start(func(c *work.Config) { c.AgentID = "given-later" })
	b.passes(e, "web", 1)
	require.Equal(t, "given-later", b.appliedWork("web").Spec.AgentID)
}

func labelsCopiedOnce(b *bench) {
	t := b.t
	e := b.start()
	desired := b.work("web", []string{configMap("a", "k: v")})
	desired.Work.Labels = map[string]string{"team": "red"}
	b.apply(e, desired)
	require.Equal(t, map[string]string{"team": "red"}, b.appliedWork("web").Labels)

	edited := b.work("web", []string{configMap("a", "k: w")}, generation(2))
	edited.Work.Labels = map[string]string{"team": "blue"}
	b.apply(e, edited)
	require.Equal(t, map[string]string{"team": "red"}, b.appliedWork("web").Labels, "at creation only")
}

func longName(b *bench) {
	t := b.t
	e := b.start()
	fits, tooLong := strings.Repeat("a", 188), strings.Repeat("b", 189)
	b.apply(e, b.work(fits, []string{configMap("fits", "k: v")}))
	r := b.deliver(e, b.work(tooLong, []string{configMap("too-long", "k: v")}))
	require.Contains(t, cond(t, manifest(t, r, "too-long").Conditions, "Applied").Message, "at most 188")
	require.False(t, b.exists(configMaps, "too-long"))
}

func kindOrder(b *bench) {
	t := b.t
	e := b.start()
	manifests := []string{
		`{apiVersion: test.fairlead.dev/v1, kind: Widget, metadata: {name: w, namespace: NS-new}, spec: {size: 1}}`,
		strings.ReplaceAll(webDeployment, "NS", "NS-new"),
		strings.ReplaceAll(webService, "NS", "NS-new"),
		strings.ReplaceAll(configMap("c", "k: v"), "NS", "NS-new"),
		`{apiVersion: v1, kind: ServiceAccount, metadata: {name: s, namespace: NS-new}}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, namespace: NS-new}, rules: []}`,
		`{apiVersion: v1, kind: Namespace, metadata: {name: NS-new}}`,
	}
	b.apply(e, b.work("order", manifests))
	require.Equal(t, 1, b.reportCount("order"), "in this order, all is applied at the first attempt")

	// Every write of the plane gets a greater resourceVersion, and nobody else writes these objects.
	last := int64(0)
	for i, resource := range []schema.GroupVersionResource{
		namespaces,
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
		{Version: "v1", Resource: "serviceaccounts"},
		configMaps, services, deployments, widgets,
	} {
		name := []string{b.ns + "-new", "r", "s", "c", "web", "web", "w"}[i]
		object := b.admin.Resource(resource).Namespace(b.ns + "-new")
		if resource == namespaces {
			obj := b.get(namespaces, name)
			last = version(t, obj.GetResourceVersion())
			continue
		}
		obj, err := object.Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		require.Greater(t, version(t, obj.GetResourceVersion()), last, "%s is out of order", resource.Resource)
		last = version(t, obj.GetResourceVersion())
	}
}

func version(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n
}

func resourceMeta(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("meta", []string{
		configMap("second", "k: v"),
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: NS-role, namespace: not-used}, rules: []}`,
	}))
	require.Equal(t, []workv1.ManifestResourceMeta{
		{Ordinal: 0, Version: "v1", Kind: "ConfigMap", Resource: "configmaps", Name: "second", Namespace: b.ns},
		{Ordinal: 1, Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole", Resource: "clusterroles", Name: b.ns + "-role"},
	}, []workv1.ManifestResourceMeta{r.Status.ResourceStatus.Manifests[0].ResourceMeta, r.Status.ResourceStatus.Manifests[1].ResourceMeta})
	b.remove(e, "meta")
}

// gadgetCRD is a kind of a group of its own; gadget is an object of it.
func gadgetCRD(group string) string {
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {kind: Gadget, listKind: GadgetList, plural: gadgets, singular: gadget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}`, group)
}

func gadget(group string) string {
	return fmt.Sprintf("{apiVersion: %s/v1, kind: Gadget, metadata: {name: g, namespace: NS}, spec: {a: 1}}", group)
}

func kindComesLater(b *bench) {
	e := b.start()
	group := b.ns + ".example.com"
	b.deliver(e, b.work("gadget", []string{gadget(group)}))
	b.create("somebody", gadgetCRD(group))
	b.waitReport("gadget", settled)
}

func crdAndCR(b *bench) {
	t := b.t
	e := b.start()
	group := b.ns + ".example.com"
	crd, gadget := gadgetCRD(group), gadget(group)

	r := b.deliver(e, b.work("gadget", []string{gadget, configMap("beside", "k: v")}))
	m := manifest(t, r, "g")
	require.Contains(t, cond(t, m.Conditions, "Applied").Message, `the server doesn't have a resource type "Gadget"`)
	require.Equal(t, "Unknown IncompleteResourceMeta", words(cond(t, m.Conditions, "Available"))[:len("Unknown IncompleteResourceMeta")])
	require.Equal(t, metav1.ConditionTrue, cond(t, manifest(t, r, "beside").Conditions, "Applied").Status)

	// The first pass finds the kind missing and makes it; what brings the next is that the definition changes as it is established.
	name, start := "gadgets."+group, time.Now()
	b.put(b.work("gadget", []string{gadget, crd, configMap("beside", "k: v")}, generation(2)))
	e.Enqueue("gadget")
	b.eventually(func() error {
		made, err := b.in(crds).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _ := field(made, "status", "conditions").([]any)
		if !strings.Contains(fmt.Sprint(conditions), "status:True type:Established") {
			return fmt.Errorf("%s has %v", name, conditions)
		}
		return nil
	})
	established := time.Now()
	b.waitReport("gadget", func(r work.Report) bool { return r.ObservedGeneration == 2 && settled(r) })
	t.Logf("the definition was established %s after delivery, and its object applied %s after that", established.Sub(start), time.Since(established))
	resource := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "gadgets"}
	require.EqualValues(t, 1, field(b.get(resource, "g"), "spec", "a"))
}

func oneFailure(b *bench) {
	t := b.t
	e := b.start()
	lost := strings.ReplaceAll(configMap("lost", "k: v"), "NS", "NS-nowhere")
	r := b.deliver(e, b.work("mixed", []string{lost, configMap("fine", "k: v")}))
	require.Equal(t, metav1.ConditionTrue, cond(t, manifest(t, r, "fine").Conditions, "Applied").Status)
	failed := manifest(t, r, "lost")
	require.Contains(t, words(cond(t, failed.Conditions, "Applied")), "False AppliedManifestFailed Failed to apply manifest: ")
	require.Contains(t, cond(t, failed.Conditions, "Applied").Message, "not found")
	require.Equal(t, "False ResourceNotAvailable Resource is not available", words(cond(t, failed.Conditions, "Available")))
	require.Equal(t, "False AppliedManifestWorkFailed Failed to apply manifest work", words(cond(t, r.Status.Conditions, "Applied")))

	b.create("", "{apiVersion: v1, kind: Namespace, metadata: {name: NS-nowhere}}")
	b.waitReport("mixed", settled)
}

func updateCustomResource(b *bench) {
	t := b.t
	e := b.start()
	widget := `{apiVersion: test.fairlead.dev/v1, kind: Widget, metadata: {name: w, namespace: NS}, spec: {size: 1, parts: [{name: a}]}}`
	b.apply(e, b.work("widget", []string{widget}))
	require.Equal(t, "blue", field(b.get(widgets, "w"), "spec", "color"), "a default is no drift")

	b.edit(widgets, "w", `{spec: {free: {x: 1}, parts: [{name: a}, {name: foreign}]}}`)
	b.waitField(widgets, "w", nil, "spec", "free")
	b.eventually(func() error {
		if parts := field(b.get(widgets, "w"), "spec", "parts").([]any); len(parts) != 1 {
			return fmt.Errorf("parts are %v", parts)
		}
		return nil
	})
	b.edit(widgets, "w", `{status: {phase: Up}}`, "status")
	b.edit(widgets, "w", `{spec: {color: red}, metadata: {annotations: {theirs: "1"}}}`)
	got := b.waitField(widgets, "w", "blue", "spec", "color")
	require.Equal(t, "Up", field(got, "status", "phase"), "the status is the spoke's")
	require.Equal(t, "1", got.GetAnnotations()["theirs"])
}

func updateRemovesFields(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{webDeployment, configMap("c", "one: a, two: b")}))
	b.edit(deployments, "web", `{spec: {replicas: 5, revisionHistoryLimit: 3}}`)
	b.waitField(deployments, "web", int64(2), "spec", "replicas")
	require.EqualValues(t, 3, field(b.get(deployments, "web"), "spec", "revisionHistoryLimit"), "nobody asked for that field")

	slim := strings.Replace(webDeployment, `, {name: B, value: "2"}`, "", 1)
	slim = strings.Replace(slim, "  replicas: 2\n", "", 1)
	e.stop() // an agent that starts anew knows what the one before it applied
	e = b.start()
	b.apply(e, b.work("web", []string{slim, configMap("c", "one: a")}, generation(2)))
	got := b.get(deployments, "web")
	containers := field(got, "spec", "template", "spec", "containers").([]any)
	require.Equal(t, []any{map[string]any{"name": "A", "value": "1"}}, containers[0].(map[string]any)["env"])
	require.EqualValues(t, 1, field(got, "spec", "replicas"), "back to the default")
	require.Equal(t, map[string]any{"one": "a"}, field(b.get(configMaps, "c"), "data"))
}

func foreignMetadata(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{`{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS, labels: {ours: "1"}}, data: {k: v}}`}))
	b.edit(configMaps, "c", `{metadata: {finalizers: [example.com/theirs], annotations: {theirs: "1"}, labels: {ours: changed, theirs: "1"}}, data: {k: changed}}`)
	got := b.waitField(configMaps, "c", "v", "data", "k")
	require.Equal(t, []string{"example.com/theirs"}, got.GetFinalizers())
	require.Equal(t, "1", got.GetAnnotations()["theirs"])
	require.Equal(t, map[string]string{"ours": "1", "theirs": "1"}, got.GetLabels())
}

func keyWithADash(b *bench) {
	t := b.t
	e := b.start()
	b.create("somebody", `{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS, labels: {old: "1", stays: "1"}, annotations: {old: "1"}}}`)
	b.apply(e, b.work("web", []string{`{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS, labels: {old-: ""}, annotations: {old-: ""}}, data: {k: v}}`}))
	got := b.get(configMaps, "c")
	require.Equal(t, map[string]string{"stays": "1"}, got.GetLabels())
	require.Empty(t, got.GetAnnotations())
	b.edit(configMaps, "c", `{metadata: {labels: {old: again}}}`)
	b.waitField(configMaps, "c", nil, "metadata", "labels", "old")
}

func spokeMetadataIgnored(b *bench) {
	t := b.t
	e := b.start()
	text := `{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS, uid: 12345678-1234-1234-1234-123456789abc,
	  resourceVersion: "7", generation: 4, managedFields: [], selfLink: x}, data: {k: %s}}`
	b.apply(e, b.work("web", []string{fmt.Sprintf(text, "v")}))
	b.apply(e, b.work("web", []string{fmt.Sprintf(text, "w")}, generation(2)))
	require.Equal(t, "w", field(b.get(configMaps, "c"), "data", "k"))
}

func fieldManager(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	b.edit(configMaps, "c", "{data: {more: x}}")
	b.waitField(configMaps, "c", nil, "data", "more")
	for _, obj := range []metav1.Object{b.get(configMaps, "c"), b.get(inventories, b.inventoryName("web"))} {
		for _, entry := range obj.GetManagedFields() {
			require.Contains(t, []string{"work-agent", "somebody"}, entry.Manager)
		}
	}
}

func ownerReference(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	applied := b.appliedWork("web")
	want := []metav1.OwnerReference{{
		APIVersion: "work.open-cluster-management.io/v1", Kind: "AppliedManifestWork", Name: applied.Name, UID: applied.UID,
	}}
	require.Equal(t, want, b.get(configMaps, "c").GetOwnerReferences())
	b.edit(configMaps, "c", "{metadata: {ownerReferences: []}}")
	b.eventually(func() error {
		if refs := b.get(configMaps, "c").GetOwnerReferences(); len(refs) != 1 {
			return fmt.Errorf("owner references are %v", refs)
		}
		return nil
	})
}

func sharedObject(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("one", []string{configMap("shared", "k: v"), configMap("only-one", "k: v")}))
	b.apply(e, b.work("two", []string{configMap("shared", "k: v")}))
	b.apply(e, b.work("three", []string{configMap("shared", "k: v")}))
	require.Len(t, b.get(configMaps, "shared").GetOwnerReferences(), 3)

	b.apply(e, b.work("one", []string{configMap("only-one", "k: v")}, generation(2)))
	b.eventually(func() error {
		if refs := b.get(configMaps, "shared").GetOwnerReferences(); len(refs) != 2 {
			return fmt.Errorf("owner references are %v", refs)
		}
		return nil
	})
	b.remove(e, "two")
	require.Len(t, b.get(configMaps, "shared").GetOwnerReferences(), 1)
	b.remove(e, "three")
	require.False(t, b.exists(configMaps, "shared"), "it went with its last owner")
	require.True(t, b.exists(configMaps, "only-one"))
}

func secretStringData(b *bench) {
	t := b.t
	e := b.start()
	text := "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: NS}, stringData: {%s}}"
	b.apply(e, b.work("web", []string{fmt.Sprintf(text, "a: x, b: z")}))
	require.Equal(t, map[string]any{"a": "eA==", "b": "eg=="}, field(b.get(secrets, "s"), "data"))
	b.apply(e, b.work("web", []string{fmt.Sprintf(text, "a: x")}, generation(2)))
	require.Equal(t, map[string]any{"a": "eA=="}, field(b.get(secrets, "s"), "data"))
}

func adoptsUpdates(b *bench) {
	t := b.t
	e := b.start()
	// An agent of OCM wrote this by creates and updates, under the same name.
	b.create("work-agent", webDeployment)
	b.create("work-agent", configMap("c", "one: a, two: b"))
	slim := strings.Replace(webDeployment, `, {name: B, value: "2"}`, "", 1)
	b.apply(e, b.work("web", []string{slim, configMap("c", "one: a")}))
	require.Equal(t, map[string]any{"one": "a"}, field(b.get(configMaps, "c"), "data"))
	got := b.get(deployments, "web")
	require.Len(t, got.GetOwnerReferences(), 1)
	container, _ := field(got, "spec", "template", "spec", "containers").([]any)[0].(map[string]any)
	require.Equal(t, []any{map[string]any{"name": "A", "value": "1"}}, container["env"])
}

func sameResourceTwice(b *bench) {
	t := b.t
	e := b.start()
	r := b.deliver(e, b.work("web", []string{configMap("c", "k: first"), configMap("c", "k: second")}))
	require.Equal(t, metav1.ConditionTrue, cond(t, r.Status.ResourceStatus.Manifests[0].Conditions, "Applied").Status)
	require.Contains(t, cond(t, r.Status.ResourceStatus.Manifests[1].Conditions, "Applied").Message, "manifest 0 is the same resource")
	require.Equal(t, "first", field(b.get(configMaps, "c"), "data", "k"))
	require.Equal(t, []string{"configmaps/c"}, b.inventory("web"))
}

func badManifests(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v")}))
	r := b.deliver(e, b.work("web", []string{
		configMap("a", "k: v"),
		`{apiVersion: v1, kind: ConfigMap, metadata: {namespace: NS}}`,
		`{apiVersion: v1, metadata: {name: no-kind}}`,
		`{kind: ConfigMap, metadata: {name: no-version}}`,
		`{apiVersion: v1, kind: ConfigMap, metadata: {name: no-namespace}}`,
		`{apiVersion: nowhere.example.com/v1, kind: Thing, metadata: {name: t, namespace: NS}}`,
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: typo, namespace: NS}, spec: {replicaz: 1}}`,
	}, generation(2)))
	messages := []string{"", "no metadata.name", "'Kind' is missing", "no apiVersion", "no metadata.namespace", `resource type "Thing"`, "replicaz"}
	for i, want := range messages {
		c := cond(t, r.Status.ResourceStatus.Manifests[i].Conditions, "Applied")
		if want == "" {
			require.Equal(t, metav1.ConditionTrue, c.Status)
			continue
		}
		require.Contains(t, words(c), "False AppliedManifestFailed Failed to apply manifest: ")
		require.Contains(t, c.Message, want)
		require.EqualValues(t, i, r.Status.ResourceStatus.Manifests[i].ResourceMeta.Ordinal)
	}
	require.True(t, b.exists(configMaps, "b"), "while a manifest cannot be read, nothing is taken for removed")
	require.Contains(t, b.inventory("web"), "configmaps/b")
}
