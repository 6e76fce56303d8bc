// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestMain(m *testing.M) {
	if os.Getenv(orphanVariable) != "" {
		os.Exit(orphanMain())
	}
	if os.Getenv(raceVariable) != "" {
		race()
		return
	}
	Main(m, Options{Name: "shared", CRDs: [][]byte{boatCRD()}})
}

func boatCRD() []byte {
	return []byte(`# two documents, of which one is a CRD
apiVersion: v1
kind: ConfigMap
metadata: {name: not-a-crd}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.test}
spec:
  group: example.test
  scope: Cluster
  names: {plural: boats, singular: boat, kind: Boat, listKind: BoatList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`)
}

func clientOf(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	clients, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return clients
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": value}}
}

func TestPlane_identities(t *testing.T) {
	t.Parallel()
	plane := Shared(t)
	namespace := plane.Namespace(t, "identities")
	admin := clientOf(t, plane.RESTConfig())
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}
	_, err := admin.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{})
	require.NoError(t, err)

	alice, err := plane.ConfigFor("alice", "readers")
	require.NoError(t, err)
	robot, err := plane.TokenConfig(t.Context(), namespace, "robot")
	require.NoError(t, err)
	list := func(config *rest.Config) error {
		_, err := clientOf(t, config).CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
		return err
	}
	require.True(t, apierrors.IsForbidden(list(alice)), "no rights before a binding")
	require.True(t, apierrors.IsForbidden(list(robot)), "no rights before a binding")

	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}
	_, err = admin.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{})
	require.NoError(t, err)
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "readers"},
		Subjects: []rbacv1.Subject{
			{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "readers"},
			{Kind: "ServiceAccount", Namespace: namespace, Name: "robot"},
		},
	}
	_, err = admin.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t, func() bool { return list(alice) == nil && list(robot) == nil }, "rights after a binding")

	_, err = plane.TokenConfig(t.Context(), namespace, "nobody")
	require.True(t, apierrors.IsNotFound(err), "a token needs its ServiceAccount: %v", err)

	events, err := plane.AuditEvents(func(e *auditv1.Event) bool {
		return e.User.Username == "alice" && e.ObjectRef != nil && e.ObjectRef.Namespace == namespace
	})
	require.NoError(t, err)
	require.NotEmpty(t, events)
	require.Equal(t, "list", events[0].Verb)
	require.EqualValues(t, 403, events[0].ResponseStatus.Code)
}

func TestPlane_kubectl_and_kubeconfig(t *testing.T) {
	t.Parallel()
	plane := Shared(t)
	const manifest = `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"by-kubectl"}}`
	_, err := plane.KubectlInput(t.Context(), strings.NewReader(manifest), "apply", "-f", "-")
	require.NoError(t, err)
	out, err := plane.Kubectl(t.Context(), "get", "namespace", "by-kubectl", "-o", "jsonpath={.status.phase}")
	require.NoError(t, err)
	require.Equal(t, "Active", out)
	_, err = plane.Kubectl(t.Context(), "get", "namespace", "absent")
	require.ErrorContains(t, err, `namespaces "absent" not found`)

	robot, err := plane.ConfigFor("from-a-file")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, WriteKubeconfig(path, robot))
	config, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(t, err)
	_, err = clientOf(t, config).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.ErrorContains(t, err, `User "from-a-file" cannot list`)
}

func TestPlane_CRDs(t *testing.T) {
	t.Parallel()
	plane := Shared(t)
	dynamicClient, err := dynamic.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	boats := dynamicClient.Resource(schema.GroupVersionResource{Group: "example.test", Version: "v1", Resource: "boats"})
	_, err = boats.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err, "served as soon as Start has returned")

	require.NoError(t, InstallCRDs(t.Context(), plane.RESTConfig(), boatCRD()), "installing again replaces")
	require.ErrorContains(t, InstallCRDs(t.Context(), plane.RESTConfig(), []byte("\tnot: yaml")), "not: yaml")
}

func TestStart_reports_why_not(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Name: "broken", Dir: filepath.Join(t.TempDir(), "p"), APIServerFlags: []string{"--no-such-flag"}})
	require.ErrorContains(t, err, "kube-apiserver ended before it was ready")
	require.ErrorContains(t, err, "unknown flag: --no-such-flag")

	_, err = Start(t.Context(), Options{Name: "no-kwok", Dir: filepath.Join(t.TempDir(), "p"), Nodes: 1})
	require.ErrorContains(t, err, "without Options.Kwok")

	used := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(used, "precious"), nil, 0o600))
	_, err = Start(t.Context(), Options{Name: "used", Dir: used})
	require.ErrorContains(t, err, "is not empty")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Start(ended, Options{Name: "late", Dir: filepath.Join(t.TempDir(), "p")})
	require.ErrorIs(t, err, context.Canceled)
}
