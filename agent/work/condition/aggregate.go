// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Reasons of conditions that are added up.
const (
	reasonAggregated = "ConditionRulesAggregated"
	reasonDegraded   = "ResourcesDegraded"
	reasonHealthy    = "ResourcesNotDegraded"
)

// Reserved lists the condition types that are the agent's and the hub's own, which no rule can set.
func Reserved() []string {
	return []string{workv1.ManifestApplied, workv1.ManifestAvailable, FeedbackSynced, workv1.WorkDeleting, "Delivered"}
}

// more returns the conditions beyond the three that every manifest has: by rules, and what no rule says.
func (o Outcome) more() []metav1.Condition {
	conditions := make([]metav1.Condition, 0, len(o.Ruled)+len(o.Derived))
	for _, c := range o.Ruled {
		conditions = append(conditions, condition(c.Type, c.Status, c.Reason, c.Message))
	}
	for _, c := range o.Derived {
		if meta.FindStatusCondition(o.Ruled, c.Type) == nil {
			conditions = append(conditions, condition(c.Type, c.Status, c.Reason, c.Message))
		}
	}
	return conditions
}

// said is what one manifest says of itself.
type said struct {
	metav1.Condition

	of workv1.ManifestResourceMeta
}

func (s said) String() string {
	if s.of.Kind == "" || s.of.Name == "" {
		return fmt.Sprintf("manifest %d: %s", s.of.Ordinal, cmp.Or(s.Message, s.Reason))
	}
	name := s.of.Name
	if s.of.Namespace != "" {
		name = s.of.Namespace + "/" + name
	}
	return fmt.Sprintf("%s %s: %s", s.of.Kind, name, cmp.Or(s.Message, s.Reason))
}

// aggregated returns the conditions of the work that add up those of its manifests. Where there is a rule for a type, only
// rules count: whoever writes one says what matters.
func aggregated(outcomes []Outcome) []metav1.Condition {
	byType := map[string][]said{}
	for _, o := range outcomes {
		for _, c := range o.Ruled {
			byType[c.Type] = append(byType[c.Type], said{c, o.Meta})
		}
	}
	var conditions []metav1.Condition
	for _, kind := range slices.Sorted(maps.Keys(byType)) {
		conditions = append(conditions, aggregate(kind, byType[kind]))
	}
	if _, ruled := byType[workv1.WorkProgressing]; !ruled {
		conditions = append(conditions, progressing(outcomes))
	}
	if _, ruled := byType[workv1.WorkDegraded]; !ruled {
		conditions = append(conditions, degraded(outcomes)...)
	}
	return conditions
}

// aggregate adds up the conditions of one type by rules: for Progressing one True decides, for all others one False, then one
// Unknown.
func aggregate(kind string, all []said) metav1.Condition {
	order := []metav1.ConditionStatus{metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionTrue}
	if kind == workv1.WorkProgressing {
		order = []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown}
	}
	for _, status := range order {
		if i := slices.IndexFunc(all, func(s said) bool { return s.Status == status }); i >= 0 {
			return condition(kind, status, reasonAggregated, all[i].String())
		}
	}
	return condition(kind, metav1.ConditionUnknown, reasonAggregated, "")
}

// progressing says whether the work is on its way still. It is there for every work, since OCM's rollouts wait for it to be
// False: a work of objects that have no such state is done when they are applied.
func progressing(outcomes []Outcome) metav1.Condition {
	for _, o := range outcomes {
		if o.Failure != nil {
			return condition(workv1.WorkProgressing, metav1.ConditionTrue, workv1.WorkProgressingReasonFailed, said{applied(o), o.Meta}.String())
		}
	}
	for _, o := range outcomes {
		if o.Presence != Present {
			return condition(workv1.WorkProgressing, metav1.ConditionTrue, workv1.WorkProgressingReasonApplying, said{available(o), o.Meta}.String())
		}
		if c := meta.FindStatusCondition(o.Derived, workv1.ManifestProgressing); c != nil && c.Status == metav1.ConditionTrue {
			return condition(workv1.WorkProgressing, metav1.ConditionTrue, workv1.WorkProgressingReasonApplying, said{*c, o.Meta}.String())
		}
	}
	return condition(workv1.WorkProgressing, metav1.ConditionFalse, workv1.WorkProgressingReasonCompleted, "All resources are as the work wants them")
}

// degraded says whether an object of the work failed, nothing if none has such a state.
func degraded(outcomes []Outcome) []metav1.Condition {
	var found []metav1.Condition
	for _, o := range outcomes {
		c := meta.FindStatusCondition(o.Derived, workv1.ManifestDegraded)
		switch {
		case c == nil:
		case c.Status == metav1.ConditionTrue:
			return []metav1.Condition{condition(workv1.WorkDegraded, metav1.ConditionTrue, reasonDegraded, said{*c, o.Meta}.String())}
		case found == nil:
			found = []metav1.Condition{condition(workv1.WorkDegraded, metav1.ConditionFalse, reasonHealthy, "No resource has failed")}
		}
	}
	return found
}
