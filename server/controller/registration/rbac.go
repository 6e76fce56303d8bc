// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/identity"
)

const (
	rolePrefix       = "open-cluster-management:managedcluster:"
	registrationRole = rolePrefix + "registration"
	workRole         = rolePrefix + "work"
	// grpcServerRole is what the hub may do for an agent in its cluster's
	// namespace; it comes with the hub's manifests.
	grpcServerRole = "open-cluster-management:fairlead:grpc-server:cluster"

	groupPrefix = "open-cluster-management:"
)

func clusterRoleName(cluster string) string         { return rolePrefix + cluster }
func registrationBindingName(cluster string) string { return rolePrefix + cluster + ":registration" }
func workBindingName(cluster string) string         { return rolePrefix + cluster + ":work" }
func grpcServerBindingName(cluster string) string   { return rolePrefix + cluster + ":grpc-server" }

// meta is the metadata of an object made for a cluster; the labels that its
// kind needs win over configured ones.
func (c Config) meta(namespace, name string, own map[string]string) metav1.ObjectMeta {
	all := maps.Clone(c.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: all}
}

func (c Config) clusterMeta(namespace, name, cluster string) metav1.ObjectMeta {
	return c.meta(namespace, name, map[string]string{ManagedByLabel: ManagedBy, identity.ClusterNameLabel: cluster})
}

// namespace is the cluster's namespace.
func (c Config) namespace(cluster string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: c.meta("", cluster, map[string]string{identity.ClusterNameLabel: cluster})}
}

// clusterRole is what an accepted cluster may do outside its namespace.
func (c Config) clusterRole(cluster string) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: c.clusterMeta("", clusterRoleName(cluster), cluster),
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests"}, Verbs: []string{"create", "get", "list", "watch"}},
			{APIGroups: []string{identity.RegisterGroup}, Resources: []string{"managedclusters/clientcertificates"}, Verbs: []string{"renew"}},
			ownCluster(cluster, "managedclusters", "get", "list", "update", "watch"),
			ownCluster(cluster, "managedclusters/status", "patch", "update"),
		},
	}
}

// deniedClusterRole is what is left to a cluster that was denied: it may see
// that it was.
func (c Config) deniedClusterRole(cluster string) *rbacv1.ClusterRole {
	role := c.clusterRole(cluster)
	role.Rules = []rbacv1.PolicyRule{ownCluster(cluster, "managedclusters", "get", "list", "watch")}
	return role
}

func ownCluster(cluster, resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{"cluster.open-cluster-management.io"}, Resources: []string{resource},
		ResourceNames: []string{cluster}, Verbs: verbs,
	}
}

func (c Config) clusterRoleBinding(cluster string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: c.clusterMeta("", clusterRoleName(cluster), cluster),
		RoleRef:    roleRef(clusterRoleName(cluster)),
		Subjects:   agentGroups(cluster),
	}
}

// bindings are the RoleBindings in an accepted cluster's namespace.
func (c Config) bindings(cluster string) []client.Object {
	return []client.Object{
		c.roleBinding(cluster, registrationBindingName(cluster), registrationRole, agentGroups(cluster)),
		c.lasting(c.roleBinding(cluster, workBindingName(cluster), workRole, agentGroups(cluster))),
		c.lasting(c.roleBinding(cluster, grpcServerBindingName(cluster), grpcServerRole, []rbacv1.Subject{
			{Kind: rbacv1.ServiceAccountKind, Namespace: c.HubNamespace, Name: identity.GRPCServerServiceAccount},
		})),
	}
}

func (c Config) roleBinding(cluster, name, role string, subjects []rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: c.clusterMeta(cluster, name, cluster), RoleRef: roleRef(role), Subjects: subjects,
	}
}

// lasting makes a binding outlive the ManifestWorks: whoever cleans up after
// them needs it until the last one is gone.
func (c Config) lasting(binding *rbacv1.RoleBinding) *rbacv1.RoleBinding {
	binding.Finalizers = []string{identity.ManifestWorkFinalizer}
	return binding
}

func roleRef(clusterRole string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole}
}

func agentGroups(cluster string) []rbacv1.Subject {
	return []rbacv1.Subject{
		{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: identity.Group(cluster)},
		{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: groupPrefix + cluster},
	}
}

// sharedRoles are bound in every cluster's namespace.
func (c Config) sharedRoles() []client.Object {
	shared := func(name string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: c.meta("", name, map[string]string{ManagedByLabel: ManagedBy}), Rules: rules}
	}
	return []client.Object{
		shared(registrationRole, []rbacv1.PolicyRule{
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "update"}},
			{APIGroups: []string{"addon.open-cluster-management.io"}, Resources: []string{"managedclusteraddons"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"addon.open-cluster-management.io"}, Resources: []string{"managedclusteraddons/status"}, Verbs: []string{"patch", "update"}},
			{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
		}),
		shared(workRole, []rbacv1.PolicyRule{
			{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch", "update"}},
			{APIGroups: []string{"work.open-cluster-management.io"}, Resources: []string{"manifestworks"}, Verbs: []string{"get", "list", "watch", "update", "patch"}},
			{APIGroups: []string{"work.open-cluster-management.io"}, Resources: []string{"manifestworks/status"}, Verbs: []string{"patch", "update"}},
		}),
	}
}
