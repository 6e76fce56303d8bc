// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/test/env"
)

const (
	testWait = 3 * time.Minute
	testTick = 100 * time.Millisecond
	// nudgeTick leaves an apiserver time to end what it has begun.
	nudgeTick = time.Second
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "kube"}) }

func newClient(t *testing.T, cfg *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(cfg, client.Options{})
	require.NoError(t, err)
	return c
}

func whoami(t *testing.T, cfg *rest.Config) string {
	t.Helper()
	review := &authenticationv1.SelfSubjectReview{}
	require.NoError(t, newClient(t, cfg).Create(t.Context(), review))
	return review.Status.UserInfo.Username
}

func TestInstallCRDsTwiceWritesOnce(t *testing.T) {
	cfg := env.Shared(t).RESTConfig()
	install(t, cfg, deploy.HubCRDs())
	install(t, cfg, deploy.SpokeCRDs())
	version := func() string {
		crd := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}}
		require.NoError(t, newClient(t, cfg).Get(t.Context(), client.ObjectKey{Name: "clusterenrollments.fairlead.dev"}, crd))
		return crd.ResourceVersion
	}
	before := version()
	install(t, cfg, deploy.HubCRDs())
	require.Equal(t, before, version(), "applying what is there changes nothing")
}

func TestServiceAccountConfigActsAsTheServiceAccount(t *testing.T) {
	cfg := env.Shared(t).RESTConfig()
	const namespace = "elsewhere"
	account := types.NamespacedName{Namespace: namespace, Name: identity.GRPCServerServiceAccount}
	agents, err := kube.EnsureIdentity(t.Context(), cfg, newClient(t, cfg), account, deploy.HubRBAC())
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:elsewhere:grpc-server-sa", whoami(t, agents), "manifests follow the hub's namespace")
	err = newClient(t, agents).List(t.Context(), &corev1.SecretList{}, client.InNamespace(namespace))
	require.Error(t, err, "it reads no Secret, not even in its own namespace")

	// Its token is refused once the account is made anew; the next call gets a new one.
	acting := newClient(t, agents)
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account.Name, Namespace: namespace}}
	require.NoError(t, newClient(t, cfg).Delete(t.Context(), sa))
	require.NoError(t, kube.ApplyManifests(t.Context(), newClient(t, cfg), namespace, deploy.HubRBAC()))
	require.Eventually(t, func() bool {
		return acting.Create(t.Context(), &authenticationv1.SelfSubjectReview{}) == nil
	}, testWait, testTick)
}

func TestT70_the_token_of_a_person_is_the_only_identity(t *testing.T) {
	plane := env.Shared(t)
	admin := plane.RESTConfig() // has a client certificate, which would win over a token
	_, err := kube.AnonymousConfigWithToken(admin, "")
	require.ErrorIs(t, err, kube.ErrNoToken)

	core := newClient(t, admin)
	alice := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "alice", Namespace: "default"}}
	require.NoError(t, core.Create(t.Context(), alice))
	t.Cleanup(func() { require.NoError(t, core.Delete(context.WithoutCancel(t.Context()), alice)) })
	token := &authenticationv1.TokenRequest{}
	require.NoError(t, core.SubResource("token").Create(t.Context(), alice, token))

	cfg, err := kube.AnonymousConfigWithToken(admin, token.Status.Token)
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:default:alice", whoami(t, cfg))

	inCluster := rest.CopyConfig(admin)
	inCluster.CertData, inCluster.KeyData = nil, nil
	inCluster.BearerTokenFile = "/var/run/secrets/hub/token"
	cfg, err = kube.AnonymousConfigWithToken(inCluster, token.Status.Token)
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:default:alice", whoami(t, cfg), "a token file of the hub does not win either")

	cfg, err = kube.AnonymousConfigWithToken(admin, "not-a-token")
	require.NoError(t, err)
	require.Error(t, newClient(t, cfg).Create(t.Context(), &authenticationv1.SelfSubjectReview{}), "a bad token is refused, never replaced by the hub's identity")

	events, err := plane.AuditEvents(func(e *auditv1.Event) bool {
		return e.ObjectRef != nil && e.ObjectRef.Resource == "selfsubjectreviews" && e.User.Username == "system:serviceaccount:default:alice"
	})
	require.NoError(t, err)
	require.NotEmpty(t, events, "the apiserver's audit log names the person")
}

func TestUntouchedManagedCluster(t *testing.T) {
	const name = "spoke-1-abcd-efgh-ijkl"
	made := func(change func(*clusterv1.ManagedCluster)) *clusterv1.ManagedCluster {
		cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{
			Name: "spoke-1", Annotations: map[string]string{v1alpha1.AnnotationMadeBy: name},
		}, Spec: clusterv1.ManagedClusterSpec{LeaseDurationSeconds: 60}}
		change(cluster)
		return cluster
	}
	cases := map[string]struct {
		reason string
		change func(*clusterv1.ManagedCluster)
		want   bool
	}{
		"as made": {reason: "nobody touched it", change: func(*clusterv1.ManagedCluster) {}, want: true},
		"default set": {reason: "OCM's admission labels every cluster", change: func(c *clusterv1.ManagedCluster) {
			c.Labels = map[string]string{"cluster.open-cluster-management.io/clusterset": "default"}
		}, want: true},
		"accepted":     {reason: "a person accepted it", change: func(c *clusterv1.ManagedCluster) { c.Spec.HubAcceptsClient = true }},
		"labelled":     {reason: "a person labelled it", change: func(c *clusterv1.ManagedCluster) { c.Labels = map[string]string{"env": "prod"} }},
		"annotated":    {reason: "a person annotated it", change: func(c *clusterv1.ManagedCluster) { c.Annotations["note"] = "x" }},
		"spec changed": {reason: "a person set its lease", change: func(c *clusterv1.ManagedCluster) { c.Spec.LeaseDurationSeconds = 30 }},
		"tainted by health": {reason: "the hub's own taint", change: func(c *clusterv1.ManagedCluster) {
			c.Spec.Taints = []clusterv1.Taint{{Key: clusterv1.ManagedClusterTaintUnreachable}}
		}, want: true},
		"tainted":            {reason: "a person tainted it", change: func(c *clusterv1.ManagedCluster) { c.Spec.Taints = []clusterv1.Taint{{Key: "gpu"}} }},
		"made by a person":   {reason: "no mark of the hub", change: func(c *clusterv1.ManagedCluster) { c.Annotations = nil }},
		"another enrollment": {reason: "made for another key", change: func(c *clusterv1.ManagedCluster) { c.Annotations[v1alpha1.AnnotationMadeBy] = "other" }},
	}
	for label, tc := range cases {
		require.Equal(t, tc.want, kube.UntouchedManagedCluster(made(tc.change), name), "%s: %s", label, tc.reason)
	}
}

func install(t *testing.T, cfg *rest.Config, crds [][]byte) {
	t.Helper()
	kept, err := kube.InstallCRDs(t.Context(), cfg, crds)
	require.NoError(t, err)
	require.Empty(t, kept)
}
