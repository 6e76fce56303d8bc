// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/drift"
	"fairlead.dev/fairlead/agent/work/ignore"
	"fairlead.dev/fairlead/agent/work/inventory"
	"fairlead.dev/fairlead/agent/work/kinds"
)

// item is one manifest on its way through a pass.
type item struct {
	manifest apply.Manifest
	options  options
	entry    inventory.Resource // how it is listed in the inventory; without a name if the manifest does not resolve
	object   drift.Object
	hash     [sha256.Size]byte
	outcome  condition.Outcome
	orphan   bool
	ignored  ignore.Fields
	// refused says that it is not to be attempted, for the reason in outcome.Failure; retry that trying again may help.
	refused, retry bool
	// complete says that the object is complete, and not applied any more.
	complete bool
	// watchedOnly says that a refused manifest's object is looked at, and not touched.
	watchedOnly bool
}

// resolved reports whether it is known which object on the spoke the manifest is about.
func (i *item) resolved() bool { return i.entry.Name != "" }

// recorded reports whether the object belongs into the inventory.
func (i *item) recorded() bool {
	return i.resolved() && i.options.Strategy.Type != workv1.UpdateStrategyTypeReadOnly
}

// attempted reports whether the manifest is to be applied.
func (i *item) attempted() bool { return i.resolved() && !i.refused }

// refuse keeps the manifest from being attempted; the first reason counts.
func (i *item) refuse(why error) {
	if i.outcome.Failure == nil {
		i.refused = true
		i.fail(why)
	}
}

// fail notes why the manifest is not applied.
func (i *item) fail(why error) {
	i.outcome.Failure, i.outcome.FailureReason = why, ""
	if rule := (*ignore.Error)(nil); errors.As(why, &rule) {
		i.outcome.FailureReason = workv1.AppliedManifestSSAIgnoreFieldError
	}
}

// plan reads the manifests of a work, in the order of its spec. It returns an error only if the apiserver cannot be reached.
func (c *Controller) plan(ctx context.Context, work *workv1.ManifestWork) ([]*item, error) {
	refusal := workRefusal(work)
	items := make([]*item, 0, len(work.Spec.Workload.Manifests))
	places := map[inventory.Key]int{}
	for i, manifest := range work.Spec.Workload.Manifests {
		planned, err := c.resolve(ctx, manifest.Raw)
		if err != nil {
			return nil, err
		}
		planned.outcome.Meta.Ordinal = int32(i)
		items = append(items, planned)
		if refusal != nil {
			planned.refuse(refusal)
		}
		if !planned.resolved() {
			continue
		}
		key := inventory.KeyOf(planned.entry)
		planned.options = optionsFor(work.Spec.ManifestConfigs, key)
		planned.orphan = orphans(work.Spec.DeleteOption, key)
		planned.hash = hashOf(manifest.Raw, planned, work.Spec.Executor)
		planned.outcome.Rules = len(planned.options.Feedback) > 0
		if first, taken := places[key]; taken {
			planned.refuse(fmt.Errorf("manifest %d is the same resource", first))
			continue
		}
		places[key] = i
		why := planned.options.refusal()
		if why == nil {
			planned.ignored, why = ignore.Find(ctx, planned.manifest.Object, planned.options.ignored())
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if why != nil {
			planned.refuse(why)
		}
	}
	return items, nil
}

// resolve decodes one manifest and finds the resource that serves its kind.
func (c *Controller) resolve(ctx context.Context, raw []byte) (*item, error) {
	planned := &item{}
	manifest, err := apply.Decode(raw)
	planned.manifest = manifest
	if manifest.Object != nil {
		planned.outcome.Meta = metaOf(manifest.Object)
	}
	if err != nil {
		planned.refuse(err)
		return planned, nil
	}
	kind := manifest.Object.GroupVersionKind()
	mapping, err := c.mapper.ForKind(ctx, kind)
	if isUnreachable(err) {
		return nil, err
	}
	if err != nil {
		planned.refuse(err)
		planned.retry = true
		return planned, nil
	}
	if !mapping.Namespaced {
		manifest.Object.SetNamespace("")
		planned.outcome.Meta.Namespace = ""
	} else if manifest.Object.GetNamespace() == "" {
		planned.refuse(fmt.Errorf("%s %q is namespaced, and the manifest has no metadata.namespace", kind.Kind, manifest.Object.GetName()))
		return planned, nil
	}
	planned.locate(mapping)
	return planned, nil
}

func (i *item) locate(mapping kinds.Mapping) {
	obj := i.manifest.Object
	i.outcome.Meta.Resource = mapping.Resource.Resource
	i.object = drift.Object{Resource: mapping.Resource, Namespace: obj.GetNamespace(), Name: obj.GetName()}
	i.entry = inventory.Resource{
		ResourceIdentifier: workv1.ResourceIdentifier{
			Group: mapping.Resource.Group, Resource: mapping.Resource.Resource, Namespace: obj.GetNamespace(), Name: obj.GetName(),
		},
		Version: mapping.Resource.Version,
	}
}

func metaOf(obj *unstructured.Unstructured) workv1.ManifestResourceMeta {
	kind := obj.GroupVersionKind()
	return workv1.ManifestResourceMeta{
		Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(),
	}
}

// hashOf digests what decides about an object's content: its manifest, and how and as whom it is to be applied.
func hashOf(raw []byte, i *item, as *workv1.ManifestWorkExecutor) [sha256.Size]byte {
	how, err := json.Marshal(struct {
		Options  options                      `json:"options"`
		Orphan   bool                         `json:"orphan"`
		Executor *workv1.ManifestWorkExecutor `json:"executor"`
	}{i.options, i.orphan, as})
	if err != nil {
		how = nil // plain data encodes
	}
	return sha256.Sum256(append(append(append([]byte{}, raw...), 0), how...))
}

// groupKinds returns the kinds of the items, for their order.
func groupKinds(items []*item) []schema.GroupKind {
	list := make([]schema.GroupKind, len(items))
	for i, planned := range items {
		list[i] = schema.GroupKind{Group: planned.outcome.Meta.Group, Kind: planned.outcome.Meta.Kind}
	}
	return list
}
