// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/identity"
)

const (
	// FieldManager owns what the hub itself applies.
	FieldManager = "fairlead-hub"

	crdPoll    = 50 * time.Millisecond
	crdTimeout = time.Minute
)

// InstallCRDs applies CRDs (one YAML or JSON document each) and returns when
// the apiserver serves every one of them, at most a minute later. Applying what
// is there already changes nothing; two callers at once do no harm.
func InstallCRDs(ctx context.Context, cfg *rest.Config, crds [][]byte) error {
	api, err := apiextensionsclient.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("making a client for CRDs: %w", err)
	}
	names := make([]string, 0, len(crds))
	for i, doc := range crds {
		content, err := yaml.YAMLToJSON(doc)
		if err != nil {
			return fmt.Errorf("CRD number %d is not YAML: %w", i+1, err)
		}
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(content, &meta); err != nil {
			return fmt.Errorf("CRD number %d has no metadata: %w", i+1, err)
		}
		force := true
		if _, err := api.CustomResourceDefinitions().Patch(ctx, meta.Name, types.ApplyPatchType, content,
			metav1.PatchOptions{FieldManager: FieldManager, Force: &force}); err != nil {
			return fmt.Errorf("installing CRD %q: %w", meta.Name, err)
		}
		names = append(names, meta.Name)
	}
	for _, name := range names {
		if err := waitEstablished(ctx, api, name); err != nil {
			return err
		}
	}
	return nil
}

func waitEstablished(ctx context.Context, api *apiextensionsclient.ApiextensionsV1Client, name string) error {
	err := wait.PollUntilContextTimeout(ctx, crdPoll, crdTimeout, true, func(ctx context.Context) (bool, error) {
		crd, err := api.CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil && established(crd), err
	})
	if err != nil {
		return fmt.Errorf("waiting for CRD %q to be served: %w", name, err)
	}
	return nil
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, condition := range crd.Status.Conditions {
		if condition.Type == apiextensionsv1.Established {
			return condition.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// ApplyManifests applies YAML documents, one object each, by server-side apply.
// Where a document names the hub's default namespace (in its metadata or as the
// namespace of an RBAC subject), namespace takes its place.
func ApplyManifests(ctx context.Context, c client.Client, namespace string, docs [][]byte) error {
	for i, doc := range docs {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &obj.Object); err != nil {
			return fmt.Errorf("manifest number %d is not YAML: %w", i+1, err)
		}
		moveNamespace(obj, namespace)
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying %s %q: %w", obj.GetKind(), obj.GetName(), err)
		}
	}
	return nil
}

func moveNamespace(obj *unstructured.Unstructured, namespace string) {
	if obj.GetNamespace() == identity.HubNamespace {
		obj.SetNamespace(namespace)
	}
	subjects, _, _ := unstructured.NestedSlice(obj.Object, "subjects")
	for _, subject := range subjects {
		if fields, ok := subject.(map[string]any); ok && fields["namespace"] == identity.HubNamespace {
			fields["namespace"] = namespace
		}
	}
	if len(subjects) > 0 {
		obj.Object["subjects"] = subjects
	}
}

// EnsureNamespace creates a namespace if it does not exist.
func EnsureNamespace(ctx context.Context, c client.Client, name string) error {
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion("v1")
	obj.SetKind("Namespace")
	obj.SetName(name)
	if err := c.Create(ctx, obj); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %q: %w", name, err)
	}
	return nil
}
