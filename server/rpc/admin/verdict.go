// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// verdict is where a work stands in one line: before which stop, and what its spoke says of the manifest that keeps it there.
func (e explanation) verdict(out *adminv1.ExplainDeliveryResponse) string {
	for _, stop := range out.GetStops() {
		if stop.GetState() == adminv1.StopState_STOP_STATE_PASSED {
			continue
		}
		verdict := fmt.Sprintf("%s/%s stands before %q: %s", e.work.Namespace, e.work.Name, stop.GetName(), stop.GetDetail())
		if m := culprit(stop.GetName(), out.GetManifests()); m != nil {
			verdict += fmt.Sprintf("; manifest %d (%s): %s", m.GetOrdinal(), m.GetResource(), m.GetMessage())
		}
		return verdict
	}
	verdict := fmt.Sprintf("%s/%s generation %d is applied and available", e.work.Namespace, e.work.Name, out.GetObservedGeneration())
	for _, more := range []struct{ kind, words string }{
		{workv1.WorkComplete, "complete"}, {workv1.WorkDegraded, "degraded"}, {workv1.WorkProgressing, "still on its way"},
	} {
		c := meta.FindStatusCondition(e.work.Status.Conditions, more.kind)
		if c != nil && c.Status == metav1.ConditionTrue {
			return fmt.Sprintf("%s, and %s: %s", verdict, more.words, cmp.Or(c.Message, c.Reason))
		}
	}
	return verdict
}

// culprit is the manifest that keeps a work before a stop.
func culprit(stop string, manifests []*adminv1.ManifestVerdict) *adminv1.ManifestVerdict {
	for _, m := range manifests {
		if strings.EqualFold(m.GetCondition(), stop) {
			return m
		}
	}
	if len(manifests) == 0 || stop == stopHubObject {
		return nil
	}
	return manifests[0]
}

// manifests lists each manifest's conditions that somebody should know of, in
// the spoke's own words, the gravest first.
func (e explanation) manifests() []*adminv1.ManifestVerdict {
	var out []*adminv1.ManifestVerdict
	for _, m := range e.work.Status.ResourceStatus.Manifests {
		r := m.ResourceMeta
		for _, c := range m.Conditions {
			if !notable(c) {
				continue
			}
			words := c.Message
			if strings.HasPrefix(c.Reason, "ConditionRule") && c.Reason != workv1.ConditionRuleEvaluated {
				words = c.Reason + ": " + c.Message
			}
			out = append(out, &adminv1.ManifestVerdict{
				Ordinal: r.Ordinal, Resource: resourceOf(r),
				Condition: c.Type, Message: fmt.Sprintf("%s=%s: %s", c.Type, c.Status, cmp.Or(words, c.Reason)),
			})
		}
	}
	return out
}

// resourceOf names a manifest's object as people do: "apps/v1 Deployment ns/web".
func resourceOf(r workv1.ManifestResourceMeta) string {
	of := schema.GroupVersion{Group: r.Group, Version: r.Version}
	return fmt.Sprintf("%s %s %s", of, r.Kind, strings.TrimPrefix(r.Namespace+"/"+r.Name, "/"))
}

// notable tells whether a manifest's condition is other than all is well.
func notable(c metav1.Condition) bool {
	if c.Type == workv1.ManifestProgressing || c.Type == workv1.ManifestDegraded {
		return c.Status != metav1.ConditionFalse
	}
	return c.Status != metav1.ConditionTrue
}

// complete tells whether the work is complete, and therefore left as it is.
func (e explanation) complete() bool {
	return meta.IsStatusConditionTrue(e.work.Status.Conditions, workv1.WorkComplete)
}

// leftOver is what the spoke says it waits for.
func (e explanation) leftOver() string {
	c := meta.FindStatusCondition(e.work.Status.Conditions, workv1.WorkDeleting)
	if c == nil || c.Message == "" {
		return ""
	}
	return "; its agent is " + c.Message
}

// staying is what the work's delete option leaves on the spoke.
func (e explanation) staying() string {
	option := e.work.Spec.DeleteOption
	switch {
	case option == nil:
		return ""
	case option.PropagationPolicy == workv1.DeletePropagationPolicyTypeOrphan:
		return "; all that it applied stays (spec.deleteOption)"
	case option.PropagationPolicy != workv1.DeletePropagationPolicyTypeSelectivelyOrphan || option.SelectivelyOrphan == nil:
		return ""
	}
	var stays []string
	for _, rule := range option.SelectivelyOrphan.OrphaningRules {
		stays = append(stays, strings.TrimPrefix(rule.Group+" ", " ")+rule.Resource+" "+strings.TrimPrefix(rule.Namespace+"/", "/")+rule.Name)
	}
	return "; what stays (spec.deleteOption): " + strings.Join(stays, ", ")
}
