// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package consumers tests that tools which read our PlacementDecisions can: each by
// the consumer's own rules for reading, with the examples of deploy/examples, over
// objects that a real apiserver has.
package consumers

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	env.Main(m, env.Options{Name: "consumers", CRDs: deploy.HubCRDs()})
}

const examples = "../../../deploy/examples/"

// hub is an admin's client.
func hub(t *testing.T) client.Client {
	t.Helper()
	env.Once(t)
	scheme := runtime.NewScheme()
	require.NoError(t, controller.AddToScheme(scheme))
	c, err := client.New(env.Shared(t).RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	return c
}

// example reads the objects of a file.
func example(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	file, err := os.Open(examples + name)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var out []*unstructured.Unstructured
	for decoder := utilyaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		object := &unstructured.Unstructured{}
		if decoder.Decode(&object.Object) != nil {
			return out
		}
		out = append(out, object)
	}
}

// generator reads decisions as the ApplicationSet controller's generator for
// clusterDecisionResource does: by the strings of its ConfigMap alone, without knowing
// the kind, and sure of the types that it finds.
type generator struct {
	config   map[string]string
	selector string
	resource dynamic.ResourceInterface
}

func (g generator) clusters(ctx context.Context) (names []string, err error) {
	defer func() { // it does not look whether the list is one
		if r := recover(); r != nil {
			err = fmt.Errorf("the generator panics: %v", r)
		}
	}()
	list, err := g.resource.List(ctx, metav1.ListOptions{LabelSelector: g.selector})
	if err != nil {
		return nil, err
	}
	names = []string{}
	for _, item := range list.Items {
		status := item.Object["status"].(map[string]any)
		for _, decision := range status[g.config["statusListKey"]].([]any) {
			name := decision.(map[string]any)[g.config["matchKey"]].(string)
			names = append(names, name)
		}
	}
	return names, nil
}

// What Argo CD generates Applications from: the example as it is shipped, read with
// the rights that it gives, over decisions for nobody, for one and for two pages.
func TestArgoCD(t *testing.T) {
	ctx, c := t.Context(), hub(t)
	namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "argocd"}}}
	account := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "argocd-applicationset-controller", "namespace": "argocd"}}}
	require.NoError(t, c.Create(ctx, namespace))
	require.NoError(t, c.Create(ctx, account))
	g := generator{config: map[string]string{}}
	for _, object := range example(t, "argocd/cluster-decisions.yaml") {
		require.NoError(t, c.Create(ctx, object), object.GetName())
		if object.GetKind() == "ConfigMap" {
			var err error
			g.config, _, err = unstructured.NestedStringMap(object.Object, "data")
			require.NoError(t, err)
		}
	}
	set := example(t, "argocd/applicationset.yaml")
	require.Len(t, set, 1)
	generators, _, err := unstructured.NestedSlice(set[0].Object, "spec", "generators")
	require.NoError(t, err)
	source, _, err := unstructured.NestedMap(generators[0].(map[string]any), "clusterDecisionResource")
	require.NoError(t, err)
	require.Equal(t, "fairlead-placement", source["configMapRef"])
	match, _, err := unstructured.NestedStringMap(source, "labelSelector", "matchLabels")
	require.NoError(t, err)
	g.selector = labels.SelectorFromSet(match).String()
	config, err := env.Shared(t).TokenConfig(ctx, "argocd", "argocd-applicationset-controller")
	require.NoError(t, err)
	reader, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	version, err := schema.ParseGroupVersion(g.config["apiVersion"])
	require.NoError(t, err)
	g.resource = reader.Resource(version.WithResource(g.config["kind"])).Namespace("argocd")

	placement := &clusterv1beta1.Placement{}
	key := types.NamespacedName{Namespace: "argocd", Name: "guestbook"}
	require.NoError(t, c.Get(ctx, key, placement))
	var many []string
	for i := range decide.MaxClusters + 1 {
		many = append(many, fmt.Sprintf("argo-%03d", i))
	}
	for name, want := range map[string][]string{"PL-43_nobody": {}, "PL-44_one": many[:1], "PL-41_two_pages": many, "PL-43_nobody_again": {}} {
		t.Run(name, func(t *testing.T) {
			submitter := decide.Submitter{Reader: c, Writer: c}
			_, err := submitter.Submit(ctx, decide.Decision{Placement: key, UID: placement.UID, ObservedGeneration: placement.Generation, Clusters: want})
			require.NoError(t, err)
			got, err := g.clusters(ctx)
			require.NoError(t, err)
			require.ElementsMatch(t, want, got)
		})
	}
}
