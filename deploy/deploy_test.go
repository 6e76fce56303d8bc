// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/identity"
)

func TestCRDs(t *testing.T) {
	names := map[string]bool{}
	for _, doc := range append(deploy.HubCRDs(), deploy.SpokeCRDs()...) {
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.Unmarshal(doc, &crd))
		require.Equal(t, "CustomResourceDefinition", crd.Kind)
		require.False(t, names[crd.Name], "%s is listed twice", crd.Name)
		names[crd.Name] = true
	}
	for _, want := range []string{
		"clusterenrollments.fairlead.dev",
		"managedclusters.cluster.open-cluster-management.io",
		"manifestworks.work.open-cluster-management.io",
		"appliedmanifestworks.work.open-cluster-management.io",
	} {
		require.True(t, names[want], want)
	}
}

func TestCRDsAreTheModulesOwn(t *testing.T) {
	require.Equal(t, 19, sameAsModule(t, "crds/ocm", "open-cluster-management.io/api", "."), "one copy of every CRD of OCM")
	require.Equal(t, 2, sameAsModule(t, "crds/multicluster", "sigs.k8s.io/cluster-inventory-api", "config/crd/bases"), "and of SIG Multicluster")
}

// sameAsModule compares a folder of ours with one of a pinned module, and counts.
func sameAsModule(t *testing.T, folder, module, bases string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	require.NoError(t, err)
	root := filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(bases))
	ours, err := fs.Sub(deploy.Files(), folder)
	require.NoError(t, err)
	seen := 0
	require.NoError(t, fs.WalkDir(ours, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		seen++
		got, err := fs.ReadFile(ours, path)
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s differs from %s as it is pinned", path, module)
		return nil
	}))
	return seen
}

func TestGRPCServerHasNoRightThatDecides(t *testing.T) {
	seen := 0
	for _, doc := range deploy.HubRBAC() {
		var role rbacv1.ClusterRole
		require.NoError(t, yaml.Unmarshal(doc, &role))
		if !strings.Contains(role.Name, "grpc-server") {
			continue
		}
		seen++
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				require.NotContains(t, []string{"*", "impersonate", "approve", "sign", "escalate", "bind", "delete", "deletecollection"}, verb)
			}
			for _, resource := range rule.Resources {
				require.NotContains(t, []string{"*", "secrets", "certificatesigningrequests/approval", "certificatesigningrequests/status"}, resource)
			}
		}
	}
	require.Positive(t, seen)
}

// TestHubManifests: what is embedded is what kustomize would apply, and parts that
// name each other use the same names.
func TestHubManifests(t *testing.T) {
	kinds := map[string]int{}
	var raw []string
	for _, doc := range deploy.HubManifests() {
		var object unstructured.Unstructured
		require.NoError(t, yaml.Unmarshal(doc, &object.Object))
		kinds[object.GetKind()]++
		if namespace := object.GetNamespace(); namespace != "" {
			require.Equal(t, identity.HubNamespace, namespace, object.GetName())
		}
		raw = append(raw, string(doc))
	}
	require.Equal(t, map[string]int{
		"Namespace": 1, "ServiceAccount": 3, "ClusterRole": 8, "ClusterRoleBinding": 3, "Role": 2, "RoleBinding": 2,
		"Deployment": 1, "PodDisruptionBudget": 1, "Service": 3, "ValidatingWebhookConfiguration": 1, "MutatingWebhookConfiguration": 1,
	}, kinds)
	var kustomization struct{ Resources []string }
	text, err := fs.ReadFile(deploy.Files(), "hub/kustomization.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &kustomization))
	listed := 0
	for _, file := range kustomization.Resources {
		text, err := fs.ReadFile(deploy.Files(), "hub/"+file)
		require.NoError(t, err)
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			require.Contains(t, raw, doc, file)
			listed++
		}
	}
	require.Len(t, raw, listed)
}

// TestHubDeployment: docs/install.md has people replace this argument.
func TestHubDeployment(t *testing.T) {
	for _, doc := range deploy.HubManifests() {
		var deployment appsv1.Deployment
		require.NoError(t, yaml.Unmarshal(doc, &deployment))
		if deployment.Kind == "Deployment" {
			require.Regexp(t, "^--endpoints=", deployment.Spec.Template.Spec.Containers[0].Args[1])
			return
		}
	}
	require.Fail(t, "there is no Deployment")
}

// TestWebhooks: how the apiserver is told to ask the hub (WH-01), and about what.
func TestWebhooks(t *testing.T) {
	const finalizer = "'" + identity.ManifestWorkFinalizer + "' in object.metadata.finalizers"
	hooks := 0
	for _, doc := range deploy.HubManifests() {
		var configuration struct {
			Kind     string
			Metadata struct{ Name string }
			Webhooks []admissionregistrationv1.ValidatingWebhook // the mutating ones have all of its fields
		}
		require.NoError(t, yaml.Unmarshal(doc, &configuration))
		for _, hook := range configuration.Webhooks {
			hooks++
			require.Equal(t, "fairlead-hub", configuration.Metadata.Name)
			require.Equal(t, admissionregistrationv1.Fail, *hook.FailurePolicy)
			require.EqualValues(t, 10, *hook.TimeoutSeconds)
			require.Equal(t, admissionregistrationv1.SideEffectClassNone, *hook.SideEffects)
			require.Equal(t, "fairlead-hub-webhook", hook.ClientConfig.Service.Name)
			require.Len(t, hook.Rules, 1)
			require.Len(t, hook.Rules[0].Resources, 1)
			require.NotContains(t, hook.Rules[0].Resources[0], "/", "no subresource, such as status, waits for the hub")
			require.NotContains(t, hook.Rules[0].Operations, admissionregistrationv1.Delete)
			require.Len(t, hook.MatchConditions, 1, "nor does what changes no spec")
			if configuration.Kind == "MutatingWebhookConfiguration" && hook.Rules[0].Resources[0] == "manifestworks" {
				require.Contains(t, hook.MatchConditions[0].Expression, finalizer)
				require.Equal(t, []admissionregistrationv1.OperationType{admissionregistrationv1.Create}, hook.Rules[0].Operations)
			}
		}
	}
	require.Equal(t, 6, hooks)
}

// TestHubGrantsNothingThatItHasNot: it can neither take more than the manifests
// give it, nor act as somebody else, nor bind a role that is not named.
func TestHubGrantsNothingThatItHasNot(t *testing.T) {
	seen := 0
	for _, doc := range deploy.HubManifests() {
		var role rbacv1.ClusterRole
		require.NoError(t, yaml.Unmarshal(doc, &role))
		if !strings.HasSuffix(role.Kind, "Role") || role.Name != "open-cluster-management:fairlead:hub" {
			continue
		}
		seen++
		for _, rule := range role.Rules {
			require.NotContains(t, rule.Resources, "*")
			for _, verb := range []string{"*", "impersonate", "escalate", "deletecollection"} {
				require.NotContains(t, rule.Verbs, verb)
			}
			if slices.Contains(rule.Verbs, "bind") || slices.Contains(rule.Verbs, "sign") || slices.Contains(rule.Resources, "serviceaccounts/token") {
				require.NotEmpty(t, rule.ResourceNames)
			}
			if role.Kind == "ClusterRole" {
				require.NotContains(t, rule.Resources, "secrets", "only in its own namespace")
			}
		}
	}
	require.Equal(t, 2, seen)
}

// TestPeopleMayNotBecomeMore keeps the roles for people free of what would let
// them have more than they say.
func TestPeopleMayNotBecomeMore(t *testing.T) {
	seen := 0
	for _, doc := range deploy.HubRBAC() {
		var role rbacv1.ClusterRole
		require.NoError(t, yaml.Unmarshal(doc, &role))
		if role.Kind != "ClusterRole" || !strings.HasPrefix(role.Name, "fairlead-") {
			continue
		}
		seen++
		for _, rule := range role.Rules {
			require.NotContains(t, rule.Resources, "*")
			require.NotContains(t, rule.Resources, "secrets")
			for _, verb := range []string{"*", "impersonate", "sign", "escalate", "bind"} {
				require.NotContains(t, rule.Verbs, verb)
			}
		}
	}
	require.Equal(t, 5, seen)
}
