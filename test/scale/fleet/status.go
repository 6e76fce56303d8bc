// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/wire"
)

// Marker is what the status of a transition has in it, to be found by.
func Marker(transition int) string { return fmt.Sprintf("transition-%03d", transition) }

// statusJSON is the status of a work of five manifests, some 3 KiB.
func statusJSON(generation int64, transition int) ([]byte, error) {
	since := metav1.NewTime(time.Unix(1_800_000_000, 0).UTC()) // the same each time, so that a status said twice is equal
	condition := func(kind, message string) metav1.Condition {
		return metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: "Measured", Message: message,
			ObservedGeneration: generation, LastTransitionTime: since,
		}
	}
	status := workv1.ManifestWorkStatus{Conditions: []metav1.Condition{
		condition("Applied", "Apply manifest work complete"), condition("Available", Marker(transition)),
	}}
	for i, kind := range []string{"Deployment", "Service", "ConfigMap", "ServiceAccount", "Role"} {
		value := int64(transition)
		status.ResourceStatus.Manifests = append(status.ResourceStatus.Manifests, workv1.ManifestCondition{
			ResourceMeta: workv1.ManifestResourceMeta{
				Ordinal: int32(i), Group: "apps", Version: "v1", Kind: kind, Resource: strings.ToLower(kind) + "s", Name: "web", Namespace: "default",
			},
			StatusFeedbacks: workv1.StatusFeedbackResult{Values: []workv1.FeedbackValue{
				{Name: "ReadyReplicas", Value: workv1.FieldValue{Type: workv1.Integer, Integer: &value}},
			}},
			Conditions: []metav1.Condition{condition("Applied", "Apply manifest complete"), condition("Available", "Resource is available")},
		})
	}
	text, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	return wire.CanonicalStatus(text) // as link.Status wants it, and agent/work gives it
}

// prepare makes the statuses of a report: all transitions of one object, then
// those of the next.
func (a *agent) prepare(r Report) (statuses []link.Status, err error) {
	for key, rev := range a.store.objects() {
		if key.Kind != wire.KindWork || !strings.HasPrefix(key.Name, r.Prefix) {
			continue
		}
		for t := r.First; t <= r.Last; t++ {
			text, err := statusJSON(rev.Generation, t)
			if err != nil {
				return nil, err
			}
			statuses = append(statuses, link.Status{
				Key: key, UID: rev.UID, ObservedGeneration: rev.Generation, ObservedDigest: rev.Digest, JSON: text,
			})
		}
	}
	return statuses, nil
}
