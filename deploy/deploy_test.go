// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/deploy"
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

func TestOCMCRDsAreTheModulesOwn(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "open-cluster-management.io/api").Output()
	require.NoError(t, err)
	module := strings.TrimSpace(string(out))
	ours, err := fs.Sub(deploy.Files(), "crds/ocm")
	require.NoError(t, err)
	seen := 0
	require.NoError(t, fs.WalkDir(ours, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		seen++
		got, err := fs.ReadFile(ours, path)
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join(module, filepath.FromSlash(path)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s differs from the pinned module", path)
		return nil
	}))
	require.Equal(t, 19, seen, "one copy of every CRD of the module")
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

// TestPeopleMayNotBecomeMore keeps the role for people free of what would let
// them have more than it says.
func TestPeopleMayNotBecomeMore(t *testing.T) {
	seen := false
	for _, doc := range deploy.HubRBAC() {
		var role rbacv1.ClusterRole
		require.NoError(t, yaml.Unmarshal(doc, &role))
		if role.Kind != "ClusterRole" || role.Name != "fairlead-admin" {
			continue
		}
		seen = true
		for _, rule := range role.Rules {
			require.NotContains(t, rule.Resources, "*")
			require.NotContains(t, rule.Resources, "secrets")
			for _, verb := range []string{"*", "impersonate", "sign", "escalate", "bind"} {
				require.NotContains(t, rule.Verbs, verb)
			}
		}
	}
	require.True(t, seen)
}
