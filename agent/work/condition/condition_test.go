// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"pgregory.net/rapid"
)

var (
	errBoom = errors.New("boom")
	start   = time.Date(2026, 5, 1, 10, 0, 0, 123, time.UTC)
)

func resource(i int) workv1.ManifestResourceMeta {
	return workv1.ManifestResourceMeta{Ordinal: int32(i), Version: "v1", Kind: "ConfigMap", Namespace: "ns", Name: fmt.Sprint("cm", i)}
}

func find(t *testing.T, conditions []metav1.Condition, kind string) metav1.Condition {
	t.Helper()
	for _, c := range conditions {
		if c.Type == kind {
			return c
		}
	}
	t.Fatalf("no condition %s in %v", kind, conditions)
	return metav1.Condition{}
}

func TestManifestConditions(t *testing.T) {
	cases := map[string]struct {
		reason  string
		outcome Outcome
		want    [3]string // "status reason message" of Applied, Available, StatusFeedbackSynced
	}{
		"MW-12_MW-14_MW-43_all_well": {
			reason:  "applied, there, no rule",
			outcome: Outcome{Presence: Present},
			want: [3]string{
				"True AppliedManifestComplete Apply manifest complete", "True ResourceAvailable Resource is available",
				"True NoStatusFeedbackSynced ",
			},
		},
		"MW-12_failed": {
			reason:  "the failure is named; the object may be there all the same",
			outcome: Outcome{Failure: errBoom, Presence: Present, Rules: true},
			want: [3]string{
				"False AppliedManifestFailed Failed to apply manifest: boom", "True ResourceAvailable Resource is available",
				"True StatusFeedbackSynced ",
			},
		},
		"MW-14_absent": {
			reason:  "not there",
			outcome: Outcome{Failure: errBoom, Presence: Absent},
			want: [3]string{
				"False AppliedManifestFailed Failed to apply manifest: boom", "False ResourceNotAvailable Resource is not available",
				"True NoStatusFeedbackSynced ",
			},
		},
		"MW-14_unreadable": {
			reason:  "it cannot be said whether it is there",
			outcome: Outcome{Failure: errBoom, Presence: Unreadable, Unread: errBoom},
			want: [3]string{
				"False AppliedManifestFailed Failed to apply manifest: boom", "Unknown FetchingResourceFailed Failed to fetch resource: boom",
				"True NoStatusFeedbackSynced ",
			},
		},
		"MW-14_incomplete_meta": {
			reason:  "it names nothing that could be there",
			outcome: Outcome{Failure: errBoom},
			want: [3]string{
				"False AppliedManifestFailed Failed to apply manifest: boom", "Unknown IncompleteResourceMeta Resource meta is incomplete",
				"True NoStatusFeedbackSynced ",
			},
		},
		"MW-43_failed": {
			reason:  "the feedback's own error",
			outcome: Outcome{Presence: Present, Rules: true, FeedbackFailure: errBoom},
			want: [3]string{
				"True AppliedManifestComplete Apply manifest complete", "True ResourceAvailable Resource is available",
				"False StatusFeedbackSyncFailed Sync status feedback failed with error boom",
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.outcome.Meta = resource(0)
			status := Status([]Outcome{tc.outcome}, 3, workv1.ManifestWorkStatus{}, start)
			require.Len(t, status.ResourceStatus.Manifests, 1)
			conditions := status.ResourceStatus.Manifests[0].Conditions
			require.Len(t, conditions, 3, "MW-18: these three and no more")
			for i, kind := range []string{"Applied", "Available", "StatusFeedbackSynced"} {
				c := find(t, conditions, kind)
				require.Equal(t, tc.want[i], fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message), tc.reason)
				require.Equal(t, start.Truncate(time.Second), c.LastTransitionTime.Time)
			}
		})
	}
}

func TestWorkConditions(t *testing.T) {
	cases := map[string]struct {
		reason             string
		outcomes           []Outcome
		applied, available string
	}{
		"MW-13_MW-15_all_well": {
			reason:    "every manifest applied and there",
			outcomes:  []Outcome{{Presence: Present}, {Presence: Present}},
			applied:   "True AppliedManifestWorkComplete Apply manifest work complete",
			available: "True ResourcesAvailable All resources are available",
		},
		"MW-15_one_is_away": {
			reason:    "what is not there outweighs what is not known",
			outcomes:  []Outcome{{Presence: Present}, {Failure: errBoom, Presence: Absent}, {Failure: errBoom, Presence: Unreadable}},
			applied:   "False AppliedManifestWorkFailed Failed to apply manifest work",
			available: "False ResourcesNotAvailable 1 of 3 resources are not available",
		},
		"MW-15_one_is_unknown": {
			reason:    "unknown outweighs available",
			outcomes:  []Outcome{{Presence: Present}, {Failure: errBoom}},
			applied:   "False AppliedManifestWorkFailed Failed to apply manifest work",
			available: "Unknown ResourcesStatusUnknown 1 of 2 resources have unknown status",
		},
		"MW-15_no_manifests": {
			reason:    "nothing to be available",
			applied:   "True AppliedManifestWorkComplete Apply manifest work complete",
			available: "Unknown ResourcesStatusUnknown the work has no manifests",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			status := Status(tc.outcomes, 7, workv1.ManifestWorkStatus{}, start)
			require.Len(t, status.Conditions, 3, "Progressing is the third")
			for kind, want := range map[string]string{"Applied": tc.applied, "Available": tc.available} {
				c := find(t, status.Conditions, kind)
				require.Equal(t, want, fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message), tc.reason)
				require.EqualValues(t, 7, c.ObservedGeneration, "MW-13: the generation that was handled")
			}
		})
	}
}

func TestMW17_TransitionTimes(t *testing.T) {
	first := Status([]Outcome{{Meta: resource(0), Presence: Present}, {Meta: resource(1), Presence: Absent, Failure: errBoom}}, 1, workv1.ManifestWorkStatus{}, start)

	later := start.Add(time.Hour)
	moved := resource(1)
	moved.Ordinal, moved.Version = 0, "v2"
	second := Status([]Outcome{{Meta: moved, Presence: Present}, {Meta: resource(0), Presence: Present, Rules: true}}, 2, first, later)
	healed, kept := second.ResourceStatus.Manifests[0].Conditions, second.ResourceStatus.Manifests[1].Conditions
	require.Equal(t, later.Truncate(time.Second), find(t, healed, "Applied").LastTransitionTime.Time, "False became True")
	require.Equal(t, start.Truncate(time.Second), find(t, healed, "StatusFeedbackSynced").LastTransitionTime.Time, "this one did not change")
	for _, kind := range []string{"Applied", "Available", "StatusFeedbackSynced"} {
		require.Equal(t, start.Truncate(time.Second), find(t, kept, kind).LastTransitionTime.Time, "neither a new place nor an edit is a transition")
	}
	require.Equal(t, later.Truncate(time.Second), find(t, second.Conditions, "Applied").LastTransitionTime.Time)

	third := Status([]Outcome{{Meta: moved, Presence: Present}, {Meta: resource(0), Presence: Present}}, 3, second, later.Add(time.Hour))
	require.Equal(t, second.Conditions[0].LastTransitionTime, third.Conditions[0].LastTransitionTime)
}

func TestMW59_Deleting(t *testing.T) {
	before := Status([]Outcome{{Meta: resource(0), Presence: Present}}, 1, workv1.ManifestWorkStatus{}, start)
	first := Deleting(before, 2, "1 resource is left", start.Add(time.Minute))
	again := Deleting(first, 2, "0 resources are left", start.Add(time.Hour))

	require.Len(t, before.Conditions, 3, "the status before is not changed")
	require.Len(t, again.Conditions, 4)
	deleting := find(t, again.Conditions, "Deleting")
	require.Equal(t, "True WorkDeleting", string(deleting.Status)+" "+deleting.Reason)
	require.Equal(t, start.Add(time.Minute).Truncate(time.Second), deleting.LastTransitionTime.Time)
	require.Equal(t, before.ResourceStatus, again.ResourceStatus)
}

func TestMessagesAreBounded(t *testing.T) {
	status := Status([]Outcome{{Meta: resource(0), Failure: errors.New(strings.Repeat("x", 1<<20))}}, 1, workv1.ManifestWorkStatus{}, start)
	require.LessOrEqual(t, len(status.ResourceStatus.Manifests[0].Conditions[0].Message), messageLimit)
}

func TestAgesSurviveARestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outcomes := make([]Outcome, rapid.IntRange(0, 20).Draw(t, "manifests"))
		metas := make([]workv1.ManifestResourceMeta, len(outcomes))
		for i := range outcomes {
			outcomes[i] = Outcome{Meta: resource(i), Presence: Presence(rapid.IntRange(0, 3).Draw(t, "presence")), Unread: errBoom}
			metas[i] = outcomes[i].Meta
		}
		before := Status(outcomes, 1, workv1.ManifestWorkStatus{}, start)
		encoded, err := EncodeAges(before, "uid")
		if err != nil {
			t.Fatal(err)
		}
		after := Status(outcomes, 1, DecodeAges(encoded, "uid", metas), start.Add(time.Hour))
		again, err := EncodeAges(after, "uid")
		if err != nil {
			t.Fatal(err)
		}
		if encoded != again {
			t.Fatalf("a restart moved a time:\n%s\n%s", encoded, again)
		}
	})
	require.Empty(t, DecodeAges("garbage", "uid", []workv1.ManifestResourceMeta{resource(0)}).ResourceStatus.Manifests)
	require.Empty(t, DecodeAges(`{"sets":[["Applied=True@x","nonsense"]],"manifests":{"a":7}}`, "uid", []workv1.ManifestResourceMeta{resource(0)}).ResourceStatus.Manifests)

	edited := DecodeAges(mustEncode(t, Status([]Outcome{{Meta: resource(0), Presence: Present}}, 1, workv1.ManifestWorkStatus{}, start)), "uid",
		[]workv1.ManifestResourceMeta{resource(0), resource(1)})
	require.Len(t, edited.ResourceStatus.Manifests, 1, "a manifest that came since has no age")
}

func TestAgesAreShort(t *testing.T) {
	outcomes := make([]Outcome, 500)
	for i := range outcomes {
		outcomes[i] = Outcome{Meta: resource(i), Presence: Present}
	}
	require.Less(t, len(mustEncode(t, Status(outcomes, 1, workv1.ManifestWorkStatus{}, start))), 500*20+300)
}

func mustEncode(t *testing.T, status workv1.ManifestWorkStatus) string {
	t.Helper()
	encoded, err := EncodeAges(status, "uid")
	require.NoError(t, err)
	return encoded
}
