// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	workv1 "open-cluster-management.io/api/work/v1"
)

const (
	// Namespace is where the objects of works are on the spoke.
	Namespace = "default"

	valueKey    = "value"
	payloadKey  = "payload"
	ownerLabel  = "check.fairlead.dev/cluster"
	markerLabel = "check.fairlead.dev/marker"
	feedbackOf  = "value" // the name of the feedback that repeats data.value
)

// Work is a ManifestWork of one ConfigMap for each object: name → value. Its
// status repeats each value as feedback, so that Compare can see what the hub
// was told. For Judge, a value must never be used twice for one name.
func Work(cluster, name string, objects map[string]string) *workv1.ManifestWork {
	work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: cluster}}
	for _, object := range slices.Sorted(maps.Keys(objects)) {
		manifest := &corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: object, Namespace: Namespace, Labels: map[string]string{ownerLabel: cluster}},
			Data:       map[string]string{valueKey: objects[object]},
		}
		work.Spec.Workload.Manifests = append(work.Spec.Workload.Manifests, workv1.Manifest{RawExtension: runtime.RawExtension{Object: manifest}})
		work.Spec.ManifestConfigs = append(work.Spec.ManifestConfigs, workv1.ManifestConfigOption{
			ResourceIdentifier: workv1.ResourceIdentifier{Resource: "configmaps", Namespace: Namespace, Name: object},
			FeedbackRules:      []workv1.FeedbackRule{{Type: workv1.JSONPathsType, JsonPaths: []workv1.JsonPath{{Name: feedbackOf, Path: ".data." + valueKey}}}},
		})
	}
	return work
}

// WithPayload adds text to every ConfigMap of a work, to make it large.
func WithPayload(work *workv1.ManifestWork, payload string) *workv1.ManifestWork {
	for _, manifest := range work.Spec.Workload.Manifests {
		if object, ok := manifest.Object.(*corev1.ConfigMap); ok {
			object.Data[payloadKey] = payload
		}
	}
	return work
}

// manifests reads what a work of Work has: name → value.
func manifests(work *workv1.ManifestWork) (map[string]string, error) {
	objects := map[string]string{}
	for _, manifest := range work.Spec.Workload.Manifests {
		var object corev1.ConfigMap
		if err := json.Unmarshal(manifest.Raw, &object); err != nil {
			return nil, fmt.Errorf("work %s/%s has a manifest that is not one of check.Work: %w", work.Namespace, work.Name, err)
		}
		objects[object.Name] = object.Data[valueKey]
	}
	return objects, nil
}
