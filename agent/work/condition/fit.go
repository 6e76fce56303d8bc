// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
)

// shortMessage is what is left of messages, and largeFeedback what the values of a manifest may take, where a status is too
// large otherwise.
const (
	shortMessage  = 128
	largeFeedback = 512
)

// Fit returns status if it takes limit bytes at most, else as much of it as does: first the messages of manifests are cut, then
// values of feedback left out that are large, then manifests: those about which all is well first, from the end of the list.
// Condition Applied of the work says then how many are shown. status is not changed.
func Fit(status workv1.ManifestWorkStatus, limit int) workv1.ManifestWorkStatus {
	if sizeOf(status) <= limit {
		return status
	}
	fitting := *status.DeepCopy()
	manifests := fitting.ResourceStatus.Manifests
	for i := range manifests {
		for j, c := range manifests[i].Conditions {
			manifests[i].Conditions[j].Message = abbreviate(c.Message, shortMessage)
		}
	}
	if sizeOf(fitting) <= limit {
		return fitting
	}
	for i := range manifests {
		dropLarge(&manifests[i])
	}
	if sizeOf(fitting) <= limit {
		return fitting
	}
	return dropManifests(fitting, limit)
}

// dropLarge leaves out the feedback of a manifest if it is large, and says so.
func dropLarge(m *workv1.ManifestCondition) {
	if sizeOf(m.StatusFeedbacks) <= largeFeedback {
		return
	}
	m.StatusFeedbacks.Values = nil
	if c := meta.FindStatusCondition(m.Conditions, FeedbackSynced); c != nil {
		c.Status, c.Reason = metav1.ConditionFalse, reasonFeedbackFailed
		c.Message = "the status of the work is too large with these values"
	}
}

func dropManifests(status workv1.ManifestWorkStatus, limit int) workv1.ManifestWorkStatus {
	all := status.ResourceStatus.Manifests
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return faults(all[b]) - faults(all[a]) })
	status.ResourceStatus.Manifests = nil
	applied := meta.FindStatusCondition(status.Conditions, workv1.WorkApplied)
	said := ""
	if applied != nil {
		said = abbreviate(applied.Message, messageLimit/2)
		applied.Message = said + fmt.Sprintf("; the status shows %d of its %d manifests, more do not fit", len(all), len(all))
	}
	room, shown := limit-sizeOf(status)-len(`"resourceStatus":{"manifests":[]},`), []int{}
	for _, at := range order {
		if room -= sizeOf(all[at]) + 1; room < 0 {
			break
		}
		shown = append(shown, at)
	}
	slices.Sort(shown)
	for _, at := range shown {
		status.ResourceStatus.Manifests = append(status.ResourceStatus.Manifests, all[at])
	}
	if applied != nil {
		applied.Message = said + fmt.Sprintf("; the status shows %d of its %d manifests, more do not fit", len(shown), len(all))
	}
	return status
}

// faults is 1 for a manifest about which not all is well.
func faults(m workv1.ManifestCondition) int {
	for _, c := range m.Conditions {
		good := metav1.ConditionTrue
		if c.Type == workv1.ManifestProgressing || c.Type == workv1.ManifestDegraded {
			good = metav1.ConditionFalse
		}
		if c.Status != good {
			return 1
		}
	}
	return 0
}

func sizeOf(value any) int {
	encoded, err := json.Marshal(value)
	if err != nil {
		return 0 // plain data encodes
	}
	return len(encoded)
}
