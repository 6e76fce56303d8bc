// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"fmt"
	"time"

	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// checkTolerations finds the first toleration that makes no sense (PL-24).
func checkTolerations(tolerations []clusterv1beta1.Toleration) error {
	for i, t := range tolerations {
		switch t.Operator {
		case clusterv1beta1.TolerationOpExists:
			if t.Value != "" {
				return fmt.Errorf("spec.tolerations[%d].value is %q: must be empty if the operator is Exists", i, t.Value)
			}
		case clusterv1beta1.TolerationOpEqual, "":
			if t.Key == "" {
				return fmt.Errorf("spec.tolerations[%d].key is empty: the operator must be Exists then", i)
			}
		default:
			return fmt.Errorf("spec.tolerations[%d].operator is %q: want Exists or Equal", i, t.Operator)
		}
	}
	return nil
}

// keptAway gives the first taint that keeps the placement away from a cluster
// now, or nil, and when time alone changes the answer (zero: never). chosen says
// whether the placement has the cluster already (PL-22).
func (r *rules) keptAway(c *cluster, chosen bool, now time.Time) (by *clusterv1.Taint, again time.Time) {
	for i := range c.object.Spec.Taints {
		taint := &c.object.Spec.Taints[i]
		if taint.Effect == clusterv1.TaintEffectPreferNoSelect || taint.Effect == clusterv1.TaintEffectNoSelectIfNew && chosen {
			continue
		}
		tolerated, until := r.tolerates(taint, now)
		if !tolerated {
			return taint, time.Time{}
		}
		again = sooner(again, until)
	}
	return nil, again
}

// tolerates says whether a taint is tolerated now, and until when (zero: for ever).
func (r *rules) tolerates(taint *clusterv1.Taint, now time.Time) (ok bool, until time.Time) {
	for i := range r.spec.Tolerations {
		t := &r.spec.Tolerations[i]
		if !covers(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return true, time.Time{}
		}
		end := taint.TimeAdded.Add(time.Duration(min(max(*t.TolerationSeconds, 0), maxSeconds)) * time.Second)
		if now.Before(end) && end.After(until) {
			ok, until = true, end
		}
	}
	return ok, until
}

// maxSeconds is the longest time.Duration, in seconds.
const maxSeconds = int64(1<<63-1) / int64(time.Second)

// covers says whether a toleration is for a taint: the same key (an empty one is
// any), value unless it only has to exist, and effect (an empty one is any).
func covers(t *clusterv1beta1.Toleration, taint *clusterv1.Taint) bool {
	switch {
	case t.Effect != "" && t.Effect != taint.Effect, t.Key != "" && t.Key != taint.Key:
		return false
	case t.Operator == clusterv1beta1.TolerationOpExists:
		return true
	default:
		return t.Value == taint.Value
	}
}

// sooner is the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
