// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"
)

const (
	crdPoll    = 50 * time.Millisecond
	crdTimeout = time.Minute

	// named is how many versions and fields a sentence about a CRD names.
	named = 5
)

// KeptCRD is a CRD that was left as it is, because applying ours would have taken
// something from it.
type KeptCRD struct {
	Name string
	// Has are the versions and fields that ours has not, Lacks those that only ours has.
	Has, Lacks []string
}

// String says what was left alone, why, and what to do about it.
func (k KeptCRD) String() string {
	text := fmt.Sprintf("CustomResourceDefinition %q is left as it is: it has %s, which this version of Fairlead does not know", k.Name, list(k.Has))
	if len(k.Lacks) > 0 {
		text += fmt.Sprintf("; it lacks %s, which Fairlead writes and the apiserver drops: upgrade it where it comes from", list(k.Lacks))
	}
	return text
}

func list(items []string) string {
	if more := len(items) - named; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:named], ", "), more)
	}
	return strings.Join(items, ", ")
}

// InstallCRDs applies CRDs (one YAML or JSON document each) and returns when
// the apiserver serves every one of them, at most a minute later. One that exists
// and has a served version, a subresource or a field that ours has not is somebody
// else's or a newer one: it stays as it is, and is returned. Applying what is there
// already changes nothing; two callers at once do no harm.
func InstallCRDs(ctx context.Context, cfg *rest.Config, crds [][]byte) ([]KeptCRD, error) {
	api, err := apiextensionsclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client for CRDs: %w", err)
	}
	var kept []KeptCRD
	names := make([]string, 0, len(crds))
	for i, doc := range crds {
		ours := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(doc, ours); err != nil {
			return kept, fmt.Errorf("CRD number %d is not YAML of a CustomResourceDefinition: %w", i+1, err)
		}
		var left *KeptCRD
		err := retry.RetryOnConflict(retry.DefaultRetry, func() (err error) {
			left, err = installCRD(ctx, api, ours, doc)
			return err
		})
		if err != nil {
			return kept, fmt.Errorf("installing CRD %q: %w", ours.Name, err)
		}
		if left != nil {
			kept = append(kept, *left)
		}
		names = append(names, ours.Name)
	}
	for _, name := range names {
		if err := waitEstablished(ctx, api, name); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// installCRD applies one, unless what exists has more. What it compared with is what
// it replaces: a change in between is a conflict.
func installCRD(ctx context.Context, api *apiextensionsclient.ApiextensionsV1Client, ours *apiextensionsv1.CustomResourceDefinition, doc []byte) (*KeptCRD, error) {
	var content map[string]any
	if err := yaml.Unmarshal(doc, &content); err != nil {
		return nil, err
	}
	existing, err := api.CustomResourceDefinitions().Get(ctx, ours.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if err == nil {
		if has := beyond(existing, ours); len(has) > 0 {
			return &KeptCRD{Name: ours.Name, Has: has, Lacks: beyond(ours, existing)}, nil
		}
		if metadata, ok := content["metadata"].(map[string]any); ok {
			metadata["resourceVersion"] = existing.ResourceVersion
		}
	}
	patch, err := yaml.Marshal(content)
	if err != nil {
		return nil, err
	}
	_, err = api.CustomResourceDefinitions().Patch(ctx, ours.Name, types.ApplyPatchType, patch,
		metav1.PatchOptions{FieldManager: FieldManager, Force: new(true)})
	return nil, err
}

// beyond are the served versions of a CRD, their subresources and their fields that
// another CRD has not, sorted.
func beyond(crd, other *apiextensionsv1.CustomResourceDefinition) []string {
	var found []string
	for i := range crd.Spec.Versions {
		version := &crd.Spec.Versions[i]
		if !version.Served {
			continue
		}
		at := slices.IndexFunc(other.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
			return v.Name == version.Name && v.Served
		})
		if at < 0 {
			found = append(found, "version "+version.Name)
			continue
		}
		found = append(found, beyondVersion(version, &other.Spec.Versions[at])...)
	}
	slices.Sort(found)
	return found
}

func beyondVersion(version, other *apiextensionsv1.CustomResourceDefinitionVersion) []string {
	var found []string
	have, want := subresources(other), subresources(version)
	for _, name := range want {
		if !slices.Contains(have, name) {
			found = append(found, version.Name+" subresource "+name)
		}
	}
	if version.Schema != nil && other.Schema != nil {
		found = append(found, beyondSchema(version.Name+" ", version.Schema.OpenAPIV3Schema, other.Schema.OpenAPIV3Schema)...)
	}
	return found
}

func subresources(version *apiextensionsv1.CustomResourceDefinitionVersion) (names []string) {
	if s := version.Subresources; s != nil {
		if s.Status != nil {
			names = append(names, "status")
		}
		if s.Scale != nil {
			names = append(names, "scale")
		}
	}
	return names
}

// beyondSchema are the fields below a path that a schema has and another has not.
func beyondSchema(path string, schema, other *apiextensionsv1.JSONSchemaProps) []string {
	if schema == nil || other != nil && other.XPreserveUnknownFields != nil && *other.XPreserveUnknownFields {
		return nil
	}
	if other == nil {
		return []string{path}
	}
	var found []string
	for name := range schema.Properties {
		field := schema.Properties[name]
		if theirs, ok := other.Properties[name]; ok {
			found = append(found, beyondSchema(path+"."+name, &field, &theirs)...)
		} else if other.AdditionalProperties == nil {
			found = append(found, path+"."+name)
		}
	}
	if schema.Items != nil && other.Items != nil {
		found = append(found, beyondSchema(path+"[]", schema.Items.Schema, other.Items.Schema)...)
	}
	if schema.AdditionalProperties != nil && other.AdditionalProperties != nil && other.AdditionalProperties.Schema != nil {
		found = append(found, beyondSchema(path+"[*]", schema.AdditionalProperties.Schema, other.AdditionalProperties.Schema)...)
	}
	return found
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
