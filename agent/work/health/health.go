// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Reasons of conditions.
const (
	ReasonProgressing = "Progressing"
	ReasonDone        = "Done"
	ReasonFailed      = "Failed"
	ReasonHealthy     = "NotFailed"
)

// state is what one object says of itself. Empty texts are no.
type state struct{ progressing, failed string }

// Of returns the conditions Progressing and Degraded of a live object, none if its kind has no such state. live is only read.
func Of(live *unstructured.Unstructured) []metav1.Condition {
	read, ok := readers()[live.GroupVersionKind().GroupKind()]
	if !ok {
		return nil
	}
	object := reader{live.Object}
	found := read(object)
	switch {
	case live.GetDeletionTimestamp() != nil:
		found = state{progressing: "it is being deleted"}
	case object.has("status", "observedGeneration") && object.number("status", "observedGeneration") < live.GetGeneration():
		found = state{progressing: unseen}
	}
	if found.failed != "" {
		return []metav1.Condition{
			{Type: workv1.ManifestProgressing, Status: metav1.ConditionTrue, Reason: ReasonFailed, Message: found.failed},
			{Type: workv1.ManifestDegraded, Status: metav1.ConditionTrue, Reason: ReasonFailed, Message: found.failed},
		}
	}
	progressing := metav1.Condition{Type: workv1.ManifestProgressing, Status: metav1.ConditionFalse, Reason: ReasonDone}
	if found.progressing != "" {
		progressing.Status, progressing.Reason, progressing.Message = metav1.ConditionTrue, ReasonProgressing, found.progressing
	}
	return []metav1.Condition{progressing, {Type: workv1.ManifestDegraded, Status: metav1.ConditionFalse, Reason: ReasonHealthy}}
}

func readers() map[schema.GroupKind]func(reader) state {
	return map[schema.GroupKind]func(reader) state{
		{Group: "apps", Kind: "Deployment"}:                               deployment,
		{Group: "apps", Kind: "StatefulSet"}:                              statefulSet,
		{Group: "apps", Kind: "DaemonSet"}:                                daemonSet,
		{Group: "apps", Kind: "ReplicaSet"}:                               replicaSet,
		{Kind: "ReplicationController"}:                                   replicaSet,
		{Group: "batch", Kind: "Job"}:                                     job,
		{Kind: "Pod"}:                                                     pod,
		{Kind: "PersistentVolumeClaim"}:                                   claim,
		{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: definition,
		{Group: "apiregistration.k8s.io", Kind: "APIService"}:             apiService,
	}
}

// reader reads fields of an object; what is not there, or of another type, is the zero value.
type reader struct{ object map[string]any }

func (r reader) value(path ...string) any {
	value, _, err := unstructured.NestedFieldNoCopy(r.object, path...)
	if err != nil {
		return nil
	}
	return value
}

func (r reader) has(path ...string) bool { return r.value(path...) != nil }

func (r reader) number(path ...string) int64 {
	number, _ := r.value(path...).(int64)
	return number
}

// numberOr is for fields with a default.
func (r reader) numberOr(otherwise int64, path ...string) int64 {
	if number, ok := r.value(path...).(int64); ok {
		return number
	}
	return otherwise
}

func (r reader) text(path ...string) string {
	text, _ := r.value(path...).(string)
	return text
}

func (r reader) list(path ...string) []reader {
	values, _ := r.value(path...).([]any)
	var list []reader
	for _, value := range values {
		if fields, ok := value.(map[string]any); ok {
			list = append(list, reader{fields})
		}
	}
	return list
}

// condition returns a condition of the object's status, an empty one if there is none.
func (r reader) condition(kind string) reader {
	for _, condition := range r.list("status", "conditions") {
		if condition.text("type") == kind {
			return condition
		}
	}
	return reader{}
}

func (r reader) is(kind, status string) bool { return r.condition(kind).text("status") == status }

// words returns what a condition says, otherwise if it says nothing.
func (r reader) words(otherwise string) string {
	reason, message := r.text("reason"), r.text("message")
	switch {
	case reason == "" && message == "":
		return otherwise
	case message == "":
		return reason
	case reason == "":
		return message
	}
	return reason + ": " + message
}
