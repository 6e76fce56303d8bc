// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/test/env"
)

// TestInstallCRDs_takes_nothing_away installs over what somebody else, or a newer
// Fairlead, installed.
func TestInstallCRDs_takes_nothing_away(t *testing.T) {
	cfg := env.Shared(t).RESTConfig()
	scheme := runtime.NewScheme()
	require.NoError(t, apiextensionsv1.AddToScheme(scheme))
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	require.NoError(t, err)
	install := func(t *testing.T, doc []byte) []kube.KeptCRD {
		t.Helper()
		kept, err := kube.InstallCRDs(t.Context(), cfg, [][]byte{doc})
		require.NoError(t, err)
		return kept
	}
	remove := func(ctx context.Context, name string) {
		crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
		require.NoError(t, client.IgnoreNotFound(c.Delete(ctx, crd)))
		// An apiserver that fails to list what a young CRD has may forget that it is to try
		// again (until its resync, minutes later), unless it sees the CRD change.
		require.Eventually(t, func() bool {
			nudge := fmt.Sprintf(`{"metadata":{"annotations":{"nudge":"%d"}}}`, time.Now().UnixNano())
			err := c.Patch(ctx, crd, client.RawPatch(types.MergePatchType, []byte(nudge)))
			return apierrors.IsNotFound(err)
		}, testWait, nudgeTick)
	}
	// theirs is a CRD of ours as somebody else would have it.
	theirs := func(t *testing.T, doc []byte, change func(*apiextensionsv1.CustomResourceDefinition)) *apiextensionsv1.CustomResourceDefinition {
		t.Helper()
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, yaml.Unmarshal(doc, crd))
		change(crd)
		remove(t.Context(), crd.Name)
		require.NoError(t, c.Create(t.Context(), crd, client.FieldOwner("somebody")))
		t.Cleanup(func() { remove(context.WithoutCancel(t.Context()), crd.Name) })
		return crd
	}
	now := func(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
		t.Helper()
		is := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(crd), is))
		return is
	}
	schema := func(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.JSONSchemaProps {
		return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	}
	word := apiextensionsv1.JSONSchemaProps{Type: "string"}

	t.Run("a newer version that is served, and fields", func(t *testing.T) {
		crd := theirs(t, deploy.SIGPlacementDecisionCRD(), func(crd *apiextensionsv1.CustomResourceDefinition) {
			newer := crd.Spec.Versions[0].DeepCopy()
			newer.Name, newer.Storage = "v1", false
			crd.Spec.Versions = append(crd.Spec.Versions, *newer)
			decision := schema(crd).Properties["decisions"].Items.Schema
			decision.Properties["weight"] = word
			delete(decision.Properties, "reason")
			schema(crd).Properties["decisions"].Items.Schema = decision
		})
		kept := install(t, deploy.SIGPlacementDecisionCRD())
		require.Equal(t, []kube.KeptCRD{{
			Name: crd.Name, Has: []string{"v1alpha1 .decisions[].weight", "version v1"}, Lacks: []string{"v1alpha1 .decisions[].reason"},
		}}, kept)
		require.Equal(t, crd.Spec, now(t, crd).Spec)
		require.Equal(t, `CustomResourceDefinition "placementdecisions.multicluster.x-k8s.io" is left as it is: it has v1alpha1 .decisions[].weight, version v1, `+
			`which this version of Fairlead does not know; it lacks v1alpha1 .decisions[].reason, which Fairlead writes and the apiserver drops: upgrade it where it comes from`,
			kept[0].String())
	})
	t.Run("a subresource", func(t *testing.T) {
		crd := theirs(t, deploy.SIGPlacementDecisionCRD(), func(crd *apiextensionsv1.CustomResourceDefinition) {
			crd.Spec.Versions[0].Subresources = &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}
		})
		require.Equal(t, []kube.KeptCRD{{Name: crd.Name, Has: []string{"v1alpha1 subresource status"}}}, install(t, deploy.SIGPlacementDecisionCRD()))
		require.NotNil(t, now(t, crd).Spec.Versions[0].Subresources)
	})
	t.Run("an older one is upgraded", func(t *testing.T) {
		crd := theirs(t, deploy.SIGPlacementDecisionCRD(), func(crd *apiextensionsv1.CustomResourceDefinition) {
			delete(schema(crd).Properties, "schedulerName")
		})
		require.Empty(t, install(t, deploy.SIGPlacementDecisionCRD()))
		require.Contains(t, schema(now(t, crd)).Properties, "schedulerName")
	})
	t.Run("add-ons of an OCM hub keep v1beta1", func(t *testing.T) {
		file := "0000_01_addon.open-cluster-management.io_managedclusteraddons.crd.yaml"
		both, err := fs.ReadFile(deploy.Files(), "crds/ocm/addon/v1beta1/"+file)
		require.NoError(t, err)
		one, err := fs.ReadFile(deploy.Files(), "crds/ocm/addon/v1alpha1/"+file)
		require.NoError(t, err)
		crd := theirs(t, both, func(*apiextensionsv1.CustomResourceDefinition) {})
		kept := install(t, one)
		require.Len(t, kept, 1)
		require.Contains(t, kept[0].Has, "version v1beta1")
		require.Empty(t, kept[0].Lacks)
		require.Equal(t, crd.Spec, now(t, crd).Spec)
	})
}
