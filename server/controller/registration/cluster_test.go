// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // the functions of the tables are tests, not helpers
package registration_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/identity"
)

// TestRegistration has one subtest for each behaviour row of cluster
// registration; each acts through API objects and reads API objects back.
func TestRegistration(t *testing.T) {
	h := theHub(t)
	t.Run("RC-10_shared_roles_live_as_long_as_any_cluster", func(t *testing.T) { sharedRolesLive(t, h) })
	rows := map[string]func(*testing.T, *hub){
		"RC-01_kind_and_columns":                         kindAndColumns,
		"RC-02_defaults":                                 defaults,
		"RC-03_taints_are_validated":                     taints,
		"RC-04_status_schema":                            statusSchema,
		"RC-05_namespace":                                namespace,
		"RC-06_finalizer":                                finalizer,
		"RC-07_clusterrole_has_exactly_4_rules":          clusterRole,
		"RC-08_rolebindings":                             roleBindings,
		"RC-09_work_binding_outlives_works":              workBinding,
		"RC-11_shared_roles_rules":                       sharedRules,
		"RC-12_labels_flag":                              labelsFlag,
		"RC-13_drift_is_restored":                        drift,
		"RC-13_foreign_labels_and_annotations_stay":      foreignFields,
		"RC-14_condition":                                acceptedCondition,
		"RC-14_apply_error_is_in_the_condition":          applyError,
		"RC-15_never_accepted_gets_nothing":              neverAccepted,
		"RC-16_denial_shrinks_access":                    denial,
		"RC-17_condition_after_denial":                   deniedCondition,
		"RC-18_accepting_again_restores":                 acceptAgain,
		"RC-19_deletion_waits_for_works_keeps_namespace": deletion,
		"RC-69_gate_off_waits_for_works_and_addons":      waitsForAddOns,
		"RC-20_leftovers_of_a_vanished_cluster":          leftovers,
		"RC-20_a_namesake_inherits_nothing":              namesake,
		"RC-71_agents_reach_their_own_cluster_only":      ownClusterOnly,
		"decision-7_hub_binding_for_the_agent_facing_SA": grpcServerBinding,
		"no_write_without_change":                        noWrite,
		"a_cluster_cannot_be_named_like_the_hubs_own":    reservedName,
		"a_deleted_namespace_comes_back":                 namespaceDeleted,
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(t, h)
		})
	}
}

func kindAndColumns(t *testing.T, h *hub) {
	name := h.cluster(t, true).Name
	for _, kind := range []string{"mcl", "mcls", "managedclusters"} {
		out, err := h.plane.Kubectl(t.Context(), "get", kind, name)
		require.NoError(t, err)
		header, row, _ := strings.Cut(strings.TrimSpace(out), "\n")
		require.Equal(t, []string{"NAME", "HUB", "ACCEPTED", "MANAGED", "CLUSTER", "URLS", "JOINED", "AVAILABLE", "AGE"}, strings.Fields(header))
		require.Equal(t, []string{name, "true"}, strings.Fields(row)[:2])
	}
	_, err := h.plane.Kubectl(t.Context(), "get", "mcl", name, "-n", "default", "-o", "jsonpath={.metadata.namespace}")
	require.NoError(t, err)
}

func defaults(t *testing.T, h *hub) {
	empty := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
		"metadata": map[string]any{"name": unique(t)}, "spec": map[string]any{},
	}}
	require.NoError(t, h.admin.Create(t.Context(), empty))
	got := get(t, h, "", empty.GetName(), &clusterv1.ManagedCluster{})
	require.False(t, got.Spec.HubAcceptsClient)
	require.EqualValues(t, 60, got.Spec.LeaseDurationSeconds)
}

func taints(t *testing.T, h *hub) {
	base := unique(t)
	for name, tc := range map[string]struct {
		reason string
		taint  map[string]any
		valid  bool
	}{
		"full":         {"all fields", map[string]any{"key": "example.com/a", "value": "v", "effect": "NoSelect", "timeAdded": "2026-01-01T00:00:00Z"}, true},
		"prefer":       {"second effect", map[string]any{"key": "a", "effect": "PreferNoSelect", "timeAdded": nil}, true},
		"ifnew":        {"third effect", map[string]any{"key": "a", "effect": "NoSelectIfNew", "timeAdded": nil}, true},
		"value-1024":   {"longest value", map[string]any{"key": "a", "value": strings.Repeat("v", 1024), "effect": "NoSelect", "timeAdded": nil}, true},
		"no-key":       {"key is required", map[string]any{"effect": "NoSelect", "timeAdded": nil}, false},
		"no-effect":    {"effect is required", map[string]any{"key": "a", "timeAdded": nil}, false},
		"other-effect": {"effect is one of three", map[string]any{"key": "a", "effect": "NoExecute", "timeAdded": nil}, false},
		"long-value":   {"value has at most 1024", map[string]any{"key": "a", "value": strings.Repeat("v", 1025), "effect": "NoSelect", "timeAdded": nil}, false},
		"long-key":     {"key has at most 316", map[string]any{"key": strings.Repeat("k", 317), "effect": "NoSelect", "timeAdded": nil}, false},
		"bad-prefix":   {"the prefix is a DNS subdomain", map[string]any{"key": "Bad_Prefix/a", "effect": "NoSelect", "timeAdded": nil}, false},
	} {
		cluster := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
			"metadata": map[string]any{"name": base + "-" + name}, "spec": map[string]any{"taints": []any{tc.taint}},
		}}
		err := h.admin.Create(t.Context(), cluster)
		if tc.valid {
			require.NoError(t, err, tc.reason)
			continue
		}
		require.True(t, apierrors.IsInvalid(err), "%s: %v", tc.reason, err)
	}
}

func statusSchema(t *testing.T, h *hub) {
	cluster := h.cluster(t, false)
	status := func(content string) error {
		_, err := h.plane.Kubectl(t.Context(), "patch", "mcl", cluster.Name, "--subresource=status", "--type=merge", "-p", `{"status":`+content+`}`)
		return err
	}
	require.NoError(t, status(`{"conditions":[],"capacity":{"cpu":"4","memory":"8Gi"},"allocatable":{"cpu":"3"},"version":{"kubernetes":"v1.37.2"},
		"clusterClaims":[{"name":"id.k8s.io","value":"x"},{"name":"long","value":"`+strings.Repeat("v", 1024)+`"}],
		"managedNamespaces":[{"name":"ns","clusterSet":"set","conditions":[{"type":"A","status":"True","reason":"R","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}]}`))
	got := get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{})
	require.Equal(t, "v1.37.2", got.Status.Version.Kubernetes)
	cpu := got.Status.Capacity[clusterv1.ResourceCPU]
	require.Equal(t, "4", cpu.String())
	require.Len(t, got.Status.ClusterClaims, 2)
	require.Equal(t, "set", got.Status.ManagedNamespaces[0].ClusterSet)
	require.Equal(t, "ns", got.Status.ManagedNamespaces[0].Name)

	require.Error(t, status(`{"clusterClaims":[{"name":"a","value":""}]}`), "a claim has a value")
	require.Error(t, status(`{"clusterClaims":[{"name":"a","value":"`+strings.Repeat("v", 1025)+`"}]}`), "of at most 1024")
	require.Error(t, status(`{"clusterClaims":[{"name":"`+strings.Repeat("n", 254)+`","value":"v"}]}`), "and a name of at most 253")
	twice := `{"type":"A","status":"True","reason":"R","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}`
	require.Error(t, status(`{"conditions":[`+twice+`,`+twice+`]}`), "one condition per type")
}

func namespace(t *testing.T, h *hub) {
	waiting := h.cluster(t, false)
	h.settle(t)
	require.True(t, h.absent(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: waiting.Name}}), "not before acceptance")
	h.accept(t, waiting.Name, true)
	ns := get(t, h, "", waiting.Name, &corev1.Namespace{})
	require.Equal(t, waiting.Name, ns.Labels["open-cluster-management.io/cluster-name"])
}

func finalizer(t *testing.T, h *hub) {
	waiting := h.cluster(t, false)
	h.settle(t)
	require.Empty(t, get(t, h, "", waiting.Name, &clusterv1.ManagedCluster{}).Finalizers)
	h.accept(t, waiting.Name, true)
	h.awaitAccepted(t, waiting.Name)
	require.Contains(t, get(t, h, "", waiting.Name, &clusterv1.ManagedCluster{}).Finalizers, "cluster.open-cluster-management.io/api-resource-cleanup")
}

func groups(cluster string) []rbacv1.Subject {
	return []rbacv1.Subject{
		{APIGroup: "rbac.authorization.k8s.io", Kind: "Group", Name: "system:open-cluster-management:" + cluster},
		{APIGroup: "rbac.authorization.k8s.io", Kind: "Group", Name: "open-cluster-management:" + cluster},
	}
}

func clusterRole(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	name := "open-cluster-management:managedcluster:" + c
	require.ElementsMatch(t, []rbacv1.PolicyRule{
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests"}, Verbs: []string{"create", "get", "list", "watch"}},
		{APIGroups: []string{"register.open-cluster-management.io"}, Resources: []string{"managedclusters/clientcertificates"}, Verbs: []string{"renew"}},
		{APIGroups: []string{"cluster.open-cluster-management.io"}, Resources: []string{"managedclusters"}, ResourceNames: []string{c}, Verbs: []string{"get", "list", "update", "watch"}},
		{APIGroups: []string{"cluster.open-cluster-management.io"}, Resources: []string{"managedclusters/status"}, ResourceNames: []string{c}, Verbs: []string{"patch", "update"}},
	}, get(t, h, "", name, &rbacv1.ClusterRole{}).Rules)
	binding := get(t, h, "", name, &rbacv1.ClusterRoleBinding{})
	require.Equal(t, rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: name}, binding.RoleRef)
	require.Equal(t, groups(c), binding.Subjects)
}

func roleBindings(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	for _, kind := range []string{"registration", "work"} {
		binding := get(t, h, c, "open-cluster-management:managedcluster:"+c+":"+kind, &rbacv1.RoleBinding{})
		require.Equal(t, "open-cluster-management:managedcluster:"+kind, binding.RoleRef.Name)
		require.Equal(t, groups(c), binding.Subjects)
	}
}

func workBinding(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	work := h.work(t, c, "w")
	name := "open-cluster-management:managedcluster:" + c + ":work"
	require.Equal(t, []string{"cluster.open-cluster-management.io/manifest-work-cleanup"}, get(t, h, c, name, &rbacv1.RoleBinding{}).Finalizers)

	h.accept(t, c, false)
	binding := &rbacv1.RoleBinding{}
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKey{Namespace: c, Name: name}, binding))
		require.NotNil(ct, binding.DeletionTimestamp, "it is deleted, and stays for the works that are left")
	})
	agent := h.agentOf(t, c)
	require.NoError(t, agent.Get(t.Context(), client.ObjectKeyFromObject(work), work), "the agent can still see them off")

	h.finish(t, work)
	h.awaitGone(t, binding)
}

func roleBinding(cluster, kind string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: "open-cluster-management:managedcluster:" + cluster + ":" + kind}}
}

// agentOf is a client with a certificate in OCM's format, as an agent that
// talks to the apiserver itself has one.
func (h *hub) agentOf(t *testing.T, cluster string) client.Client {
	t.Helper()
	cfg, err := h.plane.ConfigFor(identity.User(cluster, "agent"), identity.Group(cluster), identity.ManagedClustersGroup)
	require.NoError(t, err)
	agent, err := client.New(cfg, client.Options{Scheme: h.admin.Scheme()})
	require.NoError(t, err)
	return agent
}

func sharedRules(t *testing.T, h *hub) {
	h.cluster(t, true)
	require.ElementsMatch(t, []rbacv1.PolicyRule{
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "update"}},
		{APIGroups: []string{"addon.open-cluster-management.io"}, Resources: []string{"managedclusteraddons"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"addon.open-cluster-management.io"}, Resources: []string{"managedclusteraddons/status"}, Verbs: []string{"patch", "update"}},
		{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
	}, get(t, h, "", "open-cluster-management:managedcluster:registration", &rbacv1.ClusterRole{}).Rules)
	require.ElementsMatch(t, []rbacv1.PolicyRule{
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch", "update"}},
		{APIGroups: []string{"work.open-cluster-management.io"}, Resources: []string{"manifestworks"}, Verbs: []string{"get", "list", "watch", "update", "patch"}},
		{APIGroups: []string{"work.open-cluster-management.io"}, Resources: []string{"manifestworks/status"}, Verbs: []string{"patch", "update"}},
	}, get(t, h, "", "open-cluster-management:managedcluster:work", &rbacv1.ClusterRole{}).Rules)
}

// made are all objects that acceptance makes for a cluster.
func made(c string) []client.Object {
	name := "open-cluster-management:managedcluster:" + c
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}},
		roleBinding(c, "registration"), roleBinding(c, "work"), roleBinding(c, "grpc-server"),
	}
}

func labelsFlag(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	for _, object := range made(c) {
		got := get(t, h, object.GetNamespace(), object.GetName(), object)
		require.Equal(t, "fleet", got.GetLabels()["team"], "%T %s", object, object.GetName())
		require.Equal(t, c, got.GetLabels()["open-cluster-management.io/cluster-name"], "%T", object)
	}
}

func drift(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	for _, object := range made(c)[1:] { // deleted
		want := get(t, h, object.GetNamespace(), object.GetName(), object).DeepCopyObject().(client.Object)
		require.NoError(t, h.admin.Delete(t.Context(), object))
		eventually(t, func(ct *assert.CollectT) {
			require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(want), object))
			require.NotEqual(ct, want.GetUID(), object.GetUID())
			require.Nil(ct, object.GetDeletionTimestamp())
		})
	}
	role := get(t, h, "", "open-cluster-management:managedcluster:"+c, &rbacv1.ClusterRole{}) // edited
	rules := role.Rules
	role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
	require.NoError(t, h.admin.Update(t.Context(), role))
	binding := get(t, h, c, roleBinding(c, "registration").Name, &rbacv1.RoleBinding{})
	binding.Subjects, binding.Labels = nil, nil // without labels it leaves the hub's cache, and still comes back
	require.NoError(t, h.admin.Update(t.Context(), binding))
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(role), role))
		require.Equal(ct, rules, role.Rules)
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(binding), binding))
		require.Equal(ct, groups(c), binding.Subjects)
		require.Equal(ct, c, binding.Labels["open-cluster-management.io/cluster-name"])
	})
	binding.Labels["open-cluster-management.io/cluster-name"] = "another" // as if it were another cluster's
	require.NoError(t, h.admin.Update(t.Context(), binding))
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(binding), binding))
		require.Equal(ct, c, binding.Labels["open-cluster-management.io/cluster-name"])
	})
	other := roleBinding(c, "registration") // bound to another role, which cannot be edited back
	require.NoError(t, h.admin.Delete(t.Context(), binding))
	other.RoleRef = rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "admin"}
	other.Labels = role.Labels
	eventually(t, func(ct *assert.CollectT) { // the hub may be faster with its own
		_ = h.admin.Delete(t.Context(), roleBinding(c, "registration"))
		require.NoError(ct, h.admin.Create(t.Context(), other.DeepCopy()))
	})
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(binding), binding))
		require.Equal(ct, "open-cluster-management:managedcluster:registration", binding.RoleRef.Name)
	})
	ns := get(t, h, "", c, &corev1.Namespace{}) // the namespace's label too
	ns.Labels = nil
	require.NoError(t, h.admin.Update(t.Context(), ns))
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(ns), ns))
		require.Equal(ct, c, ns.Labels["open-cluster-management.io/cluster-name"])
	})
}

func foreignFields(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	ns := get(t, h, "", c, &corev1.Namespace{})
	ns.Labels["mine"], ns.Annotations = "yes", map[string]string{"mine": "too"}
	delete(ns.Labels, "team")
	require.NoError(t, h.admin.Update(t.Context(), ns))
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(ns), ns))
		require.Equal(ct, "fleet", ns.Labels["team"])
	})
	require.Equal(t, "yes", ns.Labels["mine"])
	require.Equal(t, "too", ns.Annotations["mine"])
}

func acceptedCondition(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	got := h.awaitCondition(t, c, metav1.ConditionTrue, "HubClusterAdminAccepted")
	require.Equal(t, "Accepted by hub cluster admin", got.Message)
	h.awaitEvent(t, c, "ManagedClusterAccepted")
}

// applyError makes the namespace un-appliable: it is held in deletion.
func applyError(t *testing.T, h *hub) {
	name := unique(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"example.com/hold"}, Labels: map[string]string{"open-cluster-management.io/cluster-name": name}}}
	require.NoError(t, h.admin.Create(t.Context(), ns))
	require.NoError(t, h.admin.Delete(t.Context(), ns))
	h.settle(t)
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
	cluster.Spec.HubAcceptsClient = true
	require.NoError(t, h.admin.Create(t.Context(), cluster))
	got := h.awaitCondition(t, name, metav1.ConditionFalse, "Error")
	require.Contains(t, got.Message, "namespace is being deleted")
}

func neverAccepted(t *testing.T, h *hub) {
	cluster := h.cluster(t, false)
	h.update(t, cluster.Name, func(c *clusterv1.ManagedCluster) { c.Spec.LeaseDurationSeconds = 30 })
	h.settle(t)
	for _, object := range made(cluster.Name) {
		require.True(t, h.absent(t, object), "%T %s", object, object.GetName())
	}
	got := get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{})
	require.Empty(t, got.Status.Conditions)
	require.Empty(t, got.Finalizers)
	require.NoError(t, h.admin.Delete(t.Context(), got))
	h.awaitGone(t, got)
}

func denial(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	h.accept(t, c, false)
	h.awaitCondition(t, c, metav1.ConditionFalse, "HubClusterAdminDenied")
	h.awaitEvent(t, c, "ManagedClusterDenied")
	eventually(t, func(ct *assert.CollectT) {
		role := &rbacv1.ClusterRole{}
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKey{Name: "open-cluster-management:managedcluster:" + c}, role))
		require.Equal(ct, []rbacv1.PolicyRule{{
			APIGroups: []string{"cluster.open-cluster-management.io"}, Resources: []string{"managedclusters"},
			ResourceNames: []string{c}, Verbs: []string{"get", "list", "watch"},
		}}, role.Rules)
	})
	require.False(t, h.absent(t, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "open-cluster-management:managedcluster:" + c}}))
	h.awaitGone(t, roleBinding(c, "registration"), roleBinding(c, "work"), roleBinding(c, "grpc-server"))
}

func deniedCondition(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	h.accept(t, c, false)
	require.Equal(t, "Denied by hub cluster admin", h.awaitCondition(t, c, metav1.ConditionFalse, "HubClusterAdminDenied").Message)
}

func acceptAgain(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	keep := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c, Name: "keep"}}
	require.NoError(t, h.admin.Create(t.Context(), keep))
	work := h.work(t, c, "w")
	for range 2 {
		h.accept(t, c, false)
		h.awaitCondition(t, c, metav1.ConditionFalse, "HubClusterAdminDenied")
		require.False(t, h.absent(t, keep))
		require.False(t, h.absent(t, work))
		h.accept(t, c, true)
		h.awaitAccepted(t, c)
		for _, object := range made(c) {
			eventually(t, func(ct *assert.CollectT) {
				require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object))
				require.Nil(ct, object.GetDeletionTimestamp(), "%T %s", object, object.GetName())
			})
		}
		require.Len(t, get(t, h, "", "open-cluster-management:managedcluster:"+c, &rbacv1.ClusterRole{}).Rules, 4)
	}
}

func deletion(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	work := h.work(t, cluster.Name, "w")
	require.NoError(t, h.admin.Delete(t.Context(), cluster))
	h.settle(t)
	got := get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{})
	require.NotNil(t, got.DeletionTimestamp)
	h.awaitGone(t, made(cluster.Name)[1], made(cluster.Name)[2], roleBinding(cluster.Name, "registration"))
	require.NoError(t, h.server.Get(t.Context(), client.ObjectKeyFromObject(work), work), "the hub needs its access to see the works off")
	require.NoError(t, h.agentOf(t, cluster.Name).Get(t.Context(), client.ObjectKeyFromObject(work), work), "and so does an agent of its own")

	h.finish(t, work)
	h.awaitGone(t, cluster)
	for _, object := range made(cluster.Name)[1:] {
		require.True(t, h.absent(t, object), "%T %s", object, object.GetName())
	}
	ns := get(t, h, "", cluster.Name, &corev1.Namespace{})
	require.Nil(t, ns.DeletionTimestamp, "the namespace is never deleted")
}

func waitsForAddOns(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	h.awaitAccepted(t, cluster.Name)
	addOn := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn",
		"metadata": map[string]any{"name": "addon", "namespace": cluster.Name}, "spec": map[string]any{},
	}}
	require.NoError(t, h.admin.Create(t.Context(), addOn))
	require.NoError(t, h.admin.Delete(t.Context(), cluster))
	h.awaitGone(t, made(cluster.Name)[1], made(cluster.Name)[2])
	h.settle(t)
	require.NotNil(t, get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{}).DeletionTimestamp)
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKeyFromObject(addOn), addOn), "nobody but the user deletes it")
	require.NoError(t, h.admin.Delete(t.Context(), addOn))
	h.awaitGone(t, cluster)
}

func leftovers(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	work := h.work(t, cluster.Name, "w")
	require.NoError(t, h.admin.Delete(t.Context(), cluster))
	h.update(t, cluster.Name, func(c *clusterv1.ManagedCluster) { c.Finalizers = nil }) // by force
	h.awaitGone(t, append([]client.Object{cluster}, made(cluster.Name)[1:4]...)...)
	require.False(t, h.absent(t, roleBinding(cluster.Name, "work")), "a work is left")
	h.finish(t, work)
	h.awaitGone(t, roleBinding(cluster.Name, "work"), roleBinding(cluster.Name, "grpc-server"))
	require.False(t, h.absent(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: cluster.Name}}))
}

func namesake(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	require.NoError(t, h.admin.Delete(t.Context(), cluster))
	_ = h.admin.Patch(t.Context(), cluster, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
	eventually(t, func(ct *assert.CollectT) {
		fresh := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster.Name}}
		require.NoError(ct, h.admin.Create(t.Context(), fresh))
	})
	h.awaitGone(t, made(cluster.Name)[1:]...)
	require.Nil(t, condition(get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{})))
}

func ownClusterOnly(t *testing.T, h *hub) {
	base := unique(t)
	mine, other := base, base+"xyz" // a prefix of the other's name
	for _, name := range []string{mine, other} {
		cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
		cluster.Spec.HubAcceptsClient = true
		require.NoError(t, h.admin.Create(t.Context(), cluster))
		h.awaitAccepted(t, name)
	}
	agent := h.agentOf(t, mine)
	read := func(name string) error {
		return agent.Get(t.Context(), client.ObjectKey{Name: name}, &clusterv1.ManagedCluster{})
	}
	eventually(t, func(ct *assert.CollectT) { require.NoError(ct, read(mine)) })
	require.True(t, apierrors.IsForbidden(read(other)))
	require.True(t, apierrors.IsForbidden(agent.List(t.Context(), &clusterv1.ManagedClusterList{})))
	for _, kind := range []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}} {
		err := agent.Get(t.Context(), client.ObjectKey{Namespace: mine, Name: "x"}, kind)
		require.True(t, apierrors.IsForbidden(err), "%T: %v", kind, err)
	}
}

func grpcServerBinding(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	binding := get(t, h, c, roleBinding(c, "grpc-server").Name, &rbacv1.RoleBinding{})
	require.Equal(t, "open-cluster-management:fairlead:grpc-server:cluster", binding.RoleRef.Name)
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "open-cluster-management-hub", Name: "grpc-server-sa"}}, binding.Subjects)
	work := h.work(t, c, "w")
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.server.Get(t.Context(), client.ObjectKeyFromObject(work), work))
	})
	elsewhere := h.work(t, "default", c)
	require.True(t, apierrors.IsForbidden(h.server.Get(t.Context(), client.ObjectKeyFromObject(elsewhere), elsewhere)))
}

// noWrite makes the hub look at a cluster again, and finds no write in the audit
// log nor in any resourceVersion.
func noWrite(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	h.settle(t)
	versions := map[string]string{}
	for _, object := range made(c) {
		got := get(t, h, object.GetNamespace(), object.GetName(), object)
		versions[got.GetNamespace()+"/"+got.GetName()+string(got.GetUID())] = got.GetResourceVersion()
	}
	since := time.Now()
	h.update(t, c, func(m *clusterv1.ManagedCluster) { m.Spec.LeaseDurationSeconds = 90 })
	written := get(t, h, "", c, &clusterv1.ManagedCluster{}).ResourceVersion
	h.settle(t)
	for _, object := range made(c) {
		got := get(t, h, object.GetNamespace(), object.GetName(), object)
		require.Equal(t, versions[got.GetNamespace()+"/"+got.GetName()+string(got.GetUID())], got.GetResourceVersion(), "%T %s", object, object.GetName())
	}
	require.Equal(t, written, get(t, h, "", c, &clusterv1.ManagedCluster{}).ResourceVersion)
	writes, err := h.plane.AuditEvents(func(e *auditv1.Event) bool {
		return e.UserAgent == hubAgent && e.RequestReceivedTimestamp.After(since) && e.Verb != "get" && e.Verb != "list" && e.Verb != "watch" &&
			e.ObjectRef != nil && (e.ObjectRef.Namespace == c || e.ObjectRef.Name == c || strings.HasSuffix(e.ObjectRef.Name, ":"+c))
	})
	require.NoError(t, err)
	require.Empty(t, writes)
}

func reservedName(t *testing.T, h *hub) {
	for _, name := range []string{identity.HubNamespace, "kube-system"} {
		cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
		cluster.Spec.HubAcceptsClient = true
		require.NoError(t, h.admin.Create(t.Context(), cluster))
		got := h.awaitCondition(t, name, metav1.ConditionFalse, "Error")
		require.Contains(t, got.Message, "another name")
		for _, object := range made(name)[1:] {
			require.True(t, h.absent(t, object), "%T %s", object, object.GetName())
		}
	}
}

// namespaceDeleted finishes the deletion of a namespace by hand: this plane has
// no controller-manager.
func namespaceDeleted(t *testing.T, h *hub) {
	c := h.cluster(t, true).Name
	work := h.work(t, c, "w")
	ns := get(t, h, "", c, &corev1.Namespace{})
	require.NoError(t, h.admin.Delete(t.Context(), ns))
	h.awaitCondition(t, c, metav1.ConditionFalse, "Error")
	eventually(t, func(ct *assert.CollectT) {
		require.NoError(ct, h.admin.Get(t.Context(), client.ObjectKeyFromObject(roleBinding(c, "grpc-server")), roleBinding(c, "grpc-server")))
	})
	require.False(t, h.absent(t, roleBinding(c, "work")), "the work still has to be seen off")
	h.finish(t, work)
	h.awaitGone(t, made(c)[3:]...)
	ns = get(t, h, "", c, &corev1.Namespace{})
	ns.Spec.Finalizers = nil
	require.NoError(t, h.admin.SubResource("finalize").Update(t.Context(), ns))
	h.awaitAccepted(t, c)
	for _, object := range made(c) {
		get(t, h, object.GetNamespace(), object.GetName(), object)
	}
}

// sharedRolesLive deletes every cluster of the plane, so it runs before the
// others start.
func sharedRolesLive(t *testing.T, h *hub) {
	roles := []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "open-cluster-management:managedcluster:registration"}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "open-cluster-management:managedcluster:work"}},
	}
	h.cluster(t, false)
	for _, role := range roles {
		get(t, h, "", role.GetName(), role)
		require.NoError(t, h.admin.Delete(t.Context(), role))
		uid := role.GetUID()
		eventually(t, func(c *assert.CollectT) {
			require.NoError(c, h.admin.Get(t.Context(), client.ObjectKeyFromObject(role), role))
			require.NotEqual(c, uid, role.GetUID(), "restored while a cluster exists")
		})
	}
	h.deleteAllClusters(t)
	h.awaitGone(t, roles...)
}

func (h *hub) deleteAllClusters(t *testing.T) {
	t.Helper()
	require.NoError(t, h.admin.DeleteAllOf(t.Context(), &clusterv1.ManagedCluster{}))
	eventually(t, func(c *assert.CollectT) {
		clusters := &clusterv1.ManagedClusterList{}
		require.NoError(c, h.admin.List(t.Context(), clusters))
		for i := range clusters.Items { // works of other tests would hold some
			require.NoError(c, h.force(t.Context(), &clusters.Items[i]))
		}
		require.Empty(c, clusters.Items)
	})
}

func (h *hub) force(ctx context.Context, cluster *clusterv1.ManagedCluster) error {
	before := cluster.DeepCopy()
	cluster.Finalizers = nil
	return client.IgnoreNotFound(h.admin.Patch(ctx, cluster, client.MergeFrom(before)))
}
