// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package feedback reads values out of live objects by the feedback rules of a work. Rules and an object come in, values and
// the first-hand reason why some are missing come out. It is pure: it reads nothing but its arguments.
package feedback

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/jsonpath"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Limits say what else may be fed back than integers, texts and booleans.
type Limits struct {
	// RawJSON lets objects, lists and fractions be fed back as JSON of at most RawLength bytes.
	RawJSON   bool
	RawLength int
}

// DefaultRawLength is how long JSON may be that is fed back.
const DefaultRawLength = 1024

// maxDescents bounds the ".." of one path: each multiplies what the ones before it found.
const maxDescents = 2

// Values returns what the rules find in live. The error joins what went wrong in single rules; the values of the others are
// returned all the same. A field that is not there gives no value and is no error.
func Values(live *unstructured.Unstructured, rules []workv1.FeedbackRule, limits Limits) ([]workv1.FeedbackValue, error) {
	var values []workv1.FeedbackValue
	var problems []error
	seen := map[string]bool{}
	for _, rule := range rules {
		paths, err := pathsOf(live.GroupVersionKind(), rule)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, path := range paths {
			value, found, err := valueAt(live, path, limits)
			switch {
			case err != nil:
				problems = append(problems, err)
			case found && !seen[path.Name]: // the list is keyed by name
				seen[path.Name] = true
				values = append(values, workv1.FeedbackValue{Name: path.Name, Value: value})
			}
		}
	}
	return values, errors.Join(problems...)
}

// pathsOf returns what one rule asks for.
func pathsOf(kind schema.GroupVersionKind, rule workv1.FeedbackRule) ([]workv1.JsonPath, error) {
	switch rule.Type {
	case workv1.WellKnownStatusType:
		paths, ok := wellKnown()[kind.GroupKind()]
		if !ok {
			return nil, fmt.Errorf("there is no well-known status for kind %q; use feedback rules of type %s", kind.Kind, workv1.JSONPathsType)
		}
		return paths, nil
	case workv1.JSONPathsType:
		return rule.JsonPaths, nil
	}
	return nil, fmt.Errorf("feedback rules of type %q are not supported by this agent", rule.Type)
}

// wellKnown lists the fields of status that everybody asks for. StatefulSet, PersistentVolumeClaim and CustomResourceDefinition
// are not OCM's; their names follow those of the others.
func wellKnown() map[schema.GroupKind][]workv1.JsonPath {
	return map[schema.GroupKind][]workv1.JsonPath{
		{Group: "apps", Kind: "Deployment"}: {
			{Name: "ReadyReplicas", Path: ".status.readyReplicas"},
			{Name: "Replicas", Path: ".status.replicas"},
			{Name: "AvailableReplicas", Path: ".status.availableReplicas"},
		},
		{Group: "apps", Kind: "StatefulSet"}: {
			{Name: "ReadyReplicas", Path: ".status.readyReplicas"},
			{Name: "Replicas", Path: ".status.replicas"},
			{Name: "AvailableReplicas", Path: ".status.availableReplicas"},
		},
		{Group: "apps", Kind: "DaemonSet"}: {
			{Name: "NumberReady", Path: ".status.numberReady"},
			{Name: "DesiredNumberScheduled", Path: ".status.desiredNumberScheduled"},
			{Name: "NumberAvailable", Path: ".status.numberAvailable"},
		},
		{Group: "batch", Kind: "Job"}: {
			{Name: "JobComplete", Path: `.status.conditions[?(@.type=="Complete")].status`},
			{Name: "JobSucceeded", Path: ".status.succeeded"},
		},
		{Kind: "Pod"}: {
			{Name: "PodReady", Path: `.status.conditions[?(@.type=="Ready")].status`},
			{Name: "PodPhase", Path: ".status.phase"},
		},
		{Kind: "PersistentVolumeClaim"}: {
			{Name: "PersistentVolumeClaimPhase", Path: ".status.phase"},
		},
		{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: {
			{Name: "CustomResourceDefinitionEstablished", Path: `.status.conditions[?(@.type=="Established")].status`},
		},
	}
}

// valueAt returns the value at one path, false if there is none. Of several matches the first counts.
func valueAt(live *unstructured.Unstructured, path workv1.JsonPath, limits Limits) (workv1.FieldValue, bool, error) {
	if version := live.GroupVersionKind().Version; path.Version != "" && path.Version != version {
		return workv1.FieldValue{}, false, fmt.Errorf("feedback %q is for version %q, the object is %q", path.Name, path.Version, version)
	}
	if strings.Count(path.Path, "..") > maxDescents {
		return workv1.FieldValue{}, false, fmt.Errorf("feedback %q: path %q has more than %d \"..\"", path.Name, path.Path, maxDescents)
	}
	expression := jsonpath.New(path.Name).AllowMissingKeys(true)
	if err := expression.Parse("{" + path.Path + "}"); err != nil {
		return workv1.FieldValue{}, false, fmt.Errorf("feedback %q: path %q does not parse: %w", path.Name, path.Path, err)
	}
	results, err := expression.FindResults(live.Object)
	if err != nil {
		return workv1.FieldValue{}, false, fmt.Errorf("feedback %q: reading path %q: %w", path.Name, path.Path, err)
	}
	if len(results) == 0 || len(results[0]) == 0 || !results[0][0].IsValid() {
		return workv1.FieldValue{}, false, nil
	}
	return fieldValue(path, results[0][0].Interface(), limits)
}

func fieldValue(path workv1.JsonPath, found any, limits Limits) (workv1.FieldValue, bool, error) {
	switch v := found.(type) {
	case nil:
		return workv1.FieldValue{}, false, nil
	case int64:
		return workv1.FieldValue{Type: workv1.Integer, Integer: &v}, true, nil
	case string:
		return workv1.FieldValue{Type: workv1.String, String: &v}, true, nil
	case bool:
		return workv1.FieldValue{Type: workv1.Boolean, Boolean: &v}, true, nil
	}
	if !limits.RawJSON {
		return workv1.FieldValue{}, false, fmt.Errorf(
			"feedback %q: the value at path %q is neither an integer, a string nor a boolean (the agent's feature gate RawFeedbackJsonString is off)", path.Name, path.Path)
	}
	raw, err := json.Marshal(found)
	if err != nil {
		return workv1.FieldValue{}, false, fmt.Errorf("feedback %q: encoding the value at path %q: %w", path.Name, path.Path, err)
	}
	if len(raw) > limits.RawLength {
		return workv1.FieldValue{}, false, fmt.Errorf("feedback %q: the value at path %q has %d bytes of JSON, at most %d are possible (--max-json-raw-length)",
			path.Name, path.Path, len(raw), limits.RawLength)
	}
	text := string(raw)
	return workv1.FieldValue{Type: workv1.JsonRaw, JsonRaw: &text}, true, nil
}
