// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRemaining(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	work := func(ttl int64, change func(*workv1.ManifestWork)) *workv1.ManifestWork {
		w := &workv1.ManifestWork{}
		w.Spec.DeleteOption = &workv1.DeleteOption{TTLSecondsAfterFinished: &ttl}
		w.Status.Conditions = []metav1.Condition{{Type: workv1.WorkComplete, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}}
		if change != nil {
			change(w)
		}
		return w
	}
	for name, tc := range map[string]struct {
		reason string
		work   *workv1.ManifestWork
		left   time.Duration
		ends   bool
	}{
		"MH-01 later":     {"counted from the transition", work(90, nil), 30 * time.Second, true},
		"MH-01 due":       {"to the second", work(60, nil), 0, true},
		"MH-01 zero":      {"at once", work(0, nil), -time.Minute, true},
		"very late":       {"no overflow makes it due", work(math.MaxInt64, nil), longest, true},
		"late":            {"the longest time that can be counted", work(math.MaxInt64/int64(time.Second), nil), time.Duration(math.MaxInt64/int64(time.Second))*time.Second - time.Minute, true},
		"MH-02 no option": {"kept", work(0, func(w *workv1.ManifestWork) { w.Spec.DeleteOption = nil }), 0, false},
		"MH-02 no ttl":    {"kept", work(0, func(w *workv1.ManifestWork) { w.Spec.DeleteOption.TTLSecondsAfterFinished = nil }), 0, false},
		"MH-02 of a set": {"it would be made again", work(0, func(w *workv1.ManifestWork) {
			w.Labels = map[string]string{workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey: "ns.set"}
		}), 0, false},
		"MH-01 not complete":  {"kept", work(0, func(w *workv1.ManifestWork) { w.Status.Conditions[0].Status = metav1.ConditionFalse }), 0, false},
		"MH-01 no condition":  {"kept", work(0, func(w *workv1.ManifestWork) { w.Status.Conditions = nil }), 0, false},
		"on its way out":      {"nothing to do", work(0, func(w *workv1.ManifestWork) { w.DeletionTimestamp = &metav1.Time{Time: now} }), 0, false},
		"another's condition": {"kept", work(0, func(w *workv1.ManifestWork) { w.Status.Conditions[0].Type = workv1.WorkApplied }), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			left, ends := remaining(tc.work, now)
			require.Equal(t, tc.ends, ends, tc.reason)
			require.Equal(t, tc.left, left, tc.reason)
		})
	}
}
