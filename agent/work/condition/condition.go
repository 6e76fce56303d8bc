// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package condition makes the status of a work out of what came of its manifests. Outcomes and the status before come in, a
// status comes out; lastTransitionTime moves only where a condition's status did. It is pure: values in, values out.
package condition

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Condition types and reasons of OCM that its API module does not name.
const (
	FeedbackSynced = "StatusFeedbackSynced"

	reasonWorkApplied      = "AppliedManifestWorkComplete"
	reasonWorkFailed       = "AppliedManifestWorkFailed"
	reasonAvailable        = "ResourceAvailable"
	reasonNotAvailable     = "ResourceNotAvailable"
	reasonFetchingFailed   = "FetchingResourceFailed"
	reasonIncompleteMeta   = "IncompleteResourceMeta"
	reasonAllAvailable     = "ResourcesAvailable"
	reasonSomeNotAvailable = "ResourcesNotAvailable"
	reasonStatusUnknown    = "ResourcesStatusUnknown"
	reasonFeedbackSynced   = "StatusFeedbackSynced"
	reasonNoFeedback       = "NoStatusFeedbackSynced"
	reasonFeedbackFailed   = "StatusFeedbackSyncFailed"
	reasonDeleting         = "WorkDeleting"
)

// messageLimit bounds every message, so that no error text can make a status too big to be delivered.
const messageLimit = 1024

// cutMark stands where a message was cut.
const cutMark = "..."

// Presence says what is known of an object on the spoke.
type Presence int

// The presences. Unresolved means that the manifest does not even name an object that the spoke could have.
const (
	Unresolved Presence = iota
	Present
	Absent
	Unreadable
)

// Outcome is what came of one manifest.
type Outcome struct {
	Meta workv1.ManifestResourceMeta
	// Failure is why it is not applied, nil if it is; FailureReason is the condition's reason, empty for AppliedManifestFailed.
	Failure       error
	FailureReason string
	// Contested says who writes the object otherwise again and again; empty if nobody does.
	Contested string
	// Presence says whether the object is there; Unread is why that is not known.
	Presence Presence
	Unread   error
	// Rules says that there are feedback rules; Values is what they found and FeedbackFailure what went wrong.
	Rules           bool
	Values          []workv1.FeedbackValue
	FeedbackFailure error
	// Ruled are conditions by the rules of the work; Derived those that the object's own status gives where no rule does.
	Ruled, Derived []metav1.Condition
}

// Status makes a status. generation is that of the work whose manifests were handled, previous the status before, of which
// only the conditions matter. outcomes and previous are not changed, but the status shares their memory.
func Status(outcomes []Outcome, generation int64, previous workv1.ManifestWorkStatus, now time.Time) workv1.ManifestWorkStatus {
	before := map[identity][]metav1.Condition{}
	for _, manifest := range previous.ResourceStatus.Manifests {
		before[identityOf(manifest.ResourceMeta)] = manifest.Conditions
	}
	status := workv1.ManifestWorkStatus{}
	for _, outcome := range outcomes {
		conditions := append([]metav1.Condition{applied(outcome), available(outcome), feedbackSynced(outcome)}, outcome.more()...)
		observed(conditions, generation)
		keepTimes(conditions, before[identityOf(outcome.Meta)], now)
		status.ResourceStatus.Manifests = append(status.ResourceStatus.Manifests, workv1.ManifestCondition{
			ResourceMeta:    outcome.Meta,
			StatusFeedbacks: workv1.StatusFeedbackResult{Values: outcome.Values},
			Conditions:      conditions,
		})
	}
	status.Conditions = append([]metav1.Condition{workApplied(outcomes), workAvailable(outcomes)}, aggregated(outcomes)...)
	observed(status.Conditions, generation)
	keepTimes(status.Conditions, previous.Conditions, now)
	return status
}

// Deleting returns previous with the condition that says that the work is being deleted.
func Deleting(previous workv1.ManifestWorkStatus, generation int64, message string, now time.Time) workv1.ManifestWorkStatus {
	deleting := condition(workv1.WorkDeleting, metav1.ConditionTrue, reasonDeleting, message)
	deleting.ObservedGeneration = generation
	status := previous
	status.Conditions = nil
	for _, c := range previous.Conditions {
		if c.Type != workv1.WorkDeleting {
			status.Conditions = append(status.Conditions, c)
		}
	}
	status.Conditions = append(status.Conditions, deleting)
	keepTimes(status.Conditions, previous.Conditions, now)
	return status
}

func observed(conditions []metav1.Condition, generation int64) {
	for i := range conditions {
		conditions[i].ObservedGeneration = generation
	}
}

func applied(o Outcome) metav1.Condition {
	if o.Failure != nil {
		reason := cmp.Or(o.FailureReason, workv1.AppliedManifestFailed)
		return condition(workv1.ManifestApplied, metav1.ConditionFalse, reason, "Failed to apply manifest: "+o.Failure.Error())
	}
	return condition(workv1.ManifestApplied, metav1.ConditionTrue, workv1.AppliedManifestComplete, contested("Apply manifest complete", o))
}

// contested adds to what is said of something applied that it does not stay so.
func contested(message string, o Outcome) string {
	if o.Contested == "" {
		return message
	}
	return fmt.Sprintf("%s, but %s", message, o.Contested)
}

func available(o Outcome) metav1.Condition {
	switch o.Presence {
	case Present:
		return condition(workv1.ManifestAvailable, metav1.ConditionTrue, reasonAvailable, "Resource is available")
	case Absent:
		return condition(workv1.ManifestAvailable, metav1.ConditionFalse, reasonNotAvailable, "Resource is not available")
	case Unreadable:
		return condition(workv1.ManifestAvailable, metav1.ConditionUnknown, reasonFetchingFailed, fmt.Sprintf("Failed to fetch resource: %v", o.Unread))
	case Unresolved:
	}
	return condition(workv1.ManifestAvailable, metav1.ConditionUnknown, reasonIncompleteMeta, "Resource meta is incomplete")
}

func feedbackSynced(o Outcome) metav1.Condition {
	switch {
	case o.FeedbackFailure != nil:
		return condition(FeedbackSynced, metav1.ConditionFalse, reasonFeedbackFailed, fmt.Sprintf("Sync status feedback failed with error %v", o.FeedbackFailure))
	case !o.Rules:
		return condition(FeedbackSynced, metav1.ConditionTrue, reasonNoFeedback, "")
	}
	return condition(FeedbackSynced, metav1.ConditionTrue, reasonFeedbackSynced, "")
}

func workApplied(outcomes []Outcome) metav1.Condition {
	message := "Apply manifest work complete"
	for _, o := range outcomes {
		if o.Failure != nil {
			return condition(workv1.WorkApplied, metav1.ConditionFalse, reasonWorkFailed, "Failed to apply manifest work")
		}
		if o.Contested != "" {
			message = fmt.Sprintf("Apply manifest work complete, but of %s %s", named(o.Meta), o.Contested)
		}
	}
	return condition(workv1.WorkApplied, metav1.ConditionTrue, reasonWorkApplied, message)
}

func named(m workv1.ManifestResourceMeta) string {
	if m.Namespace == "" {
		return m.Kind + " " + m.Name
	}
	return m.Kind + " " + m.Namespace + "/" + m.Name
}

// workAvailable adds up the manifests: one that is not there outweighs one of which nothing is known, and no manifests at all
// is nothing known.
func workAvailable(outcomes []Outcome) metav1.Condition {
	absent, unknown := 0, 0
	for _, o := range outcomes {
		switch o.Presence {
		case Absent:
			absent++
		case Unreadable, Unresolved:
			unknown++
		case Present:
		}
	}
	switch {
	case absent > 0:
		message := fmt.Sprintf("%d of %d resources are not available", absent, len(outcomes))
		return condition(workv1.WorkAvailable, metav1.ConditionFalse, reasonSomeNotAvailable, message)
	case unknown > 0:
		message := fmt.Sprintf("%d of %d resources have unknown status", unknown, len(outcomes))
		return condition(workv1.WorkAvailable, metav1.ConditionUnknown, reasonStatusUnknown, message)
	case len(outcomes) == 0:
		return condition(workv1.WorkAvailable, metav1.ConditionUnknown, reasonStatusUnknown, "the work has no manifests")
	}
	return condition(workv1.WorkAvailable, metav1.ConditionTrue, reasonAllAvailable, "All resources are available")
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: abbreviate(message, messageLimit)}
}

// abbreviate cuts a message that is longer than limit, and marks that it did.
func abbreviate(message string, limit int) string {
	if len(message) <= limit {
		return message
	}
	return strings.ToValidUTF8(message[:limit-len(cutMark)], "") + cutMark
}

// keepTimes gives every condition the time at which its status became what it is.
func keepTimes(conditions, before []metav1.Condition, now time.Time) {
	for i := range conditions {
		conditions[i].LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
		for _, b := range before {
			if b.Type == conditions[i].Type && b.Status == conditions[i].Status && !b.LastTransitionTime.IsZero() {
				conditions[i].LastTransitionTime = b.LastTransitionTime
			}
		}
	}
}

// identity is what makes a manifest the same one as before, whatever its place and version.
type identity struct{ group, kind, namespace, name string }

func identityOf(meta workv1.ManifestResourceMeta) identity {
	return identity{group: meta.Group, kind: meta.Kind, namespace: meta.Namespace, name: meta.Name}
}
