// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"pgregory.net/rapid"
)

// fleet makes the outcomes of many manifests.
func fleet(n int, each func(i int, o *Outcome)) []Outcome {
	outcomes := make([]Outcome, n)
	for i := range outcomes {
		outcomes[i] = Outcome{Meta: resource(i), Presence: Present}
		each(i, &outcomes[i])
	}
	return outcomes
}

func encodedSize(t require.TestingT, status workv1.ManifestWorkStatus) int {
	encoded, err := json.Marshal(status)
	require.NoError(t, err)
	return len(encoded)
}

func TestFit(t *testing.T) {
	const limit = 384 << 10
	long := errors.New(strings.Repeat("the webhook said no ", 200))
	text := strings.Repeat("x", 2000)
	cases := map[string]struct {
		reason   string
		outcomes []Outcome
		check    func(t *testing.T, before, after workv1.ManifestWorkStatus)
	}{
		"T23_it_fits": {"nothing is changed", fleet(100, func(_ int, o *Outcome) { o.Failure = long }), func(t *testing.T, before, after workv1.ManifestWorkStatus) {
			t.Helper()
			require.Equal(t, before, after)
		}},
		"T23_long_messages": {"messages are cut first, those of manifests", fleet(500, func(_ int, o *Outcome) { o.Failure = long }), func(t *testing.T, before, after workv1.ManifestWorkStatus) {
			t.Helper()
			require.Len(t, after.ResourceStatus.Manifests, 500)
			require.Equal(t, before.Conditions, after.Conditions)
			message := after.ResourceStatus.Manifests[3].Conditions[0].Message
			require.Len(t, message, shortMessage)
			require.True(t, strings.HasPrefix(message, "Failed to apply manifest: the webhook said no"))
			require.True(t, strings.HasSuffix(message, cutMark))
		}},
		"large_feedback": {"then values that are large, and it is said that they are missing", fleet(300, func(i int, o *Outcome) {
			o.Rules = true
			o.Values = []workv1.FeedbackValue{{Name: "v", Value: workv1.FieldValue{Type: workv1.String, String: &text}}}
			if i%2 == 0 {
				short := "x"
				o.Values[0].Value.String = &short
			}
		}), func(t *testing.T, _, after workv1.ManifestWorkStatus) {
			t.Helper()
			require.Len(t, after.ResourceStatus.Manifests, 300)
			kept, dropped := after.ResourceStatus.Manifests[0], after.ResourceStatus.Manifests[1]
			require.Len(t, kept.StatusFeedbacks.Values, 1)
			require.True(t, meta.IsStatusConditionTrue(kept.Conditions, FeedbackSynced))
			require.Empty(t, dropped.StatusFeedbacks.Values)
			require.Equal(t, reasonFeedbackFailed, find(t, dropped.Conditions, FeedbackSynced).Reason)
		}},
		"many_manifests": {"then manifests, those with faults last, and it is said that they are missing", fleet(8000, func(i int, o *Outcome) {
			if i >= 7990 {
				o.Presence = Absent
			}
		}), func(t *testing.T, _, after workv1.ManifestWorkStatus) {
			t.Helper()
			shown := after.ResourceStatus.Manifests
			require.Greater(t, len(shown), 300)
			require.Less(t, len(shown), 8000)
			for i, m := range shown[:len(shown)-10] {
				require.EqualValues(t, i, m.ResourceMeta.Ordinal, "in the order of the spec")
			}
			for i, m := range shown[len(shown)-10:] {
				require.EqualValues(t, 7990+i, m.ResourceMeta.Ordinal, "what is wrong is shown")
			}
			applied := find(t, after.Conditions, "Applied")
			require.Equal(t, metav1.ConditionTrue, applied.Status)
			require.Equal(t, fmt.Sprintf("Apply manifest work complete; the status shows %d of its 8000 manifests, more do not fit", len(shown)), applied.Message)
			require.Greater(t, encodedSize(t, after), limit-2000, "as much as fits")
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := Status(tc.outcomes, 1, workv1.ManifestWorkStatus{}, start)
			untouched := encodedSize(t, before)
			after := Fit(before, limit)
			require.LessOrEqual(t, encodedSize(t, after), limit)
			require.Equal(t, untouched, encodedSize(t, before), "the status is not changed")
			tc.check(t, before, after)
		})
	}
}

func TestFitAlwaysFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		message := strings.Repeat(rapid.StringN(1, 8, 32).Draw(t, "message"), rapid.IntRange(0, 300).Draw(t, "times"))
		status := Status(fleet(rapid.IntRange(0, 60).Draw(t, "manifests"), func(i int, o *Outcome) {
			o.Meta.Name = fmt.Sprint(i, strings.Repeat("n", rapid.IntRange(0, 200).Draw(t, "name")))
			o.Values = []workv1.FeedbackValue{{Name: "v", Value: workv1.FieldValue{Type: workv1.String, String: &message}}}
			o.Failure = errors.New(message)
		}), 1, workv1.ManifestWorkStatus{}, start)
		limit := rapid.IntRange(4<<10, 32<<10).Draw(t, "limit")
		if got := encodedSize(t, Fit(status, limit)); got > limit {
			t.Fatalf("%d bytes, at most %d were asked for", got, limit)
		}
	})
}
