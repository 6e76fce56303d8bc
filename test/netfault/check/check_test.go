// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	kubefake "k8s.io/client-go/kubernetes/fake"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workfake "open-cluster-management.io/api/client/work/clientset/versioned/fake"
	workv1 "open-cluster-management.io/api/work/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds are the kinds of findings, in order.
func kinds(found Findings) string {
	var out []string
	for _, f := range found {
		kind, _, _ := strings.Cut(f, ":")
		out = append(out, kind)
	}
	return strings.Join(out, ", ")
}

func TestJudge(t *testing.T) {
	// Of work w: object o is 1, then 2, deleted, made anew with 3, then without o.
	versions := []version{
		{"w", "u1", 1, false, map[string]string{"o": "1"}},
		{"other", "u9", 1, false, map[string]string{"p": "1"}},
		{"w", "u1", 2, false, map[string]string{"o": "2"}},
		{"w", "u1", 3, true, map[string]string{"o": "2"}},
		{"w", "u2", 1, false, map[string]string{"o": "3"}},
		{"w", "u2", 2, false, map[string]string{"q": "4"}},
	}
	entries := func(story string) (out []Entry) {
		for word := range strings.FieldsSeq(story) {
			what := map[byte]watch.EventType{'+': watch.Added, '~': watch.Modified, '-': watch.Deleted}[word[0]]
			name, value, _ := strings.Cut(word[1:], "=")
			out = append(out, Entry{What: what, Name: name, Value: value})
		}
		return out
	}
	tests := map[string]struct{ reason, story, want string }{
		"all of it":       {"as wanted", "+o=1 ~o=2 -o=2 +o=3 -o=3 +q=4", ""},
		"skipping":        {"only the newest counts", "+o=1 ~o=3 -o=3", ""},
		"touched":         {"the same content twice is no harm", "+o=1 ~o=1 ~o=2", ""},
		"lost":            {"no work p was deleted", "+p=1 -p=1", "unasked"},
		"lost, known":     {"also when the journal began later", "-p=1", "unasked"},
		"early":           {"the content that was never removed", "+q=4 -q=4", "unasked"},
		"older content":   {"a replaced version came back", "+o=2 ~o=1", "resurrected"},
		"after deletion":  {"the deleted version came back", "+o=2 -o=2 +o=2", "resurrected"},
		"foreign content": {"nobody wrote that", "+o=9", "different"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, kinds(judge(versions, entries(test.story))), test.reason)
		})
	}
}

func fakeWorks(objects ...runtime.Object) workclient.Interface {
	//lint:ignore SA1019 OCM has no other
	return workfake.NewSimpleClientset(objects...) //nolint:staticcheck // OCM has no other
}

func TestCompare(t *testing.T) {
	healthy := func(name string, objects map[string]string) *workv1.ManifestWork {
		work := Work("c", name, objects)
		work.Generation = 1
		for i := range work.Spec.Workload.Manifests {
			object, ok := work.Spec.Workload.Manifests[i].Object.(*corev1.ConfigMap)
			require.True(t, ok)
			raw, err := json.Marshal(object)
			require.NoError(t, err)
			work.Spec.Workload.Manifests[i] = workv1.Manifest{RawExtension: runtime.RawExtension{Raw: raw}}
			value := object.Data[valueKey]
			work.Status.ResourceStatus.Manifests = append(work.Status.ResourceStatus.Manifests, workv1.ManifestCondition{
				ResourceMeta:    workv1.ManifestResourceMeta{Name: object.Name},
				StatusFeedbacks: workv1.StatusFeedbackResult{Values: []workv1.FeedbackValue{{Name: feedbackOf, Value: workv1.FieldValue{String: &value}}}},
			})
		}
		for _, kind := range []string{workv1.WorkApplied, workv1.WorkAvailable} {
			meta.SetStatusCondition(&work.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, ObservedGeneration: 1})
		}
		return work
	}
	configMap := func(name, value string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{ownerLabel: "c"}},
			Data:       map[string]string{valueKey: value},
		}
	}
	lists := func(work string, objects ...string) *workv1.AppliedManifestWork {
		made := &workv1.AppliedManifestWork{
			ObjectMeta: metav1.ObjectMeta{Name: "hash-" + work}, Spec: workv1.AppliedManifestWorkSpec{ManifestWorkName: work, AgentID: "c"},
		}
		for _, object := range objects {
			entry := workv1.AppliedManifestResourceMeta{ResourceIdentifier: workv1.ResourceIdentifier{Resource: "configmaps", Namespace: Namespace, Name: object}}
			made.Status.AppliedResources = append(made.Status.AppliedResources, entry)
		}
		return made
	}
	applied := func(work string) *workv1.AppliedManifestWork { return lists(work, "o") }
	stale := healthy("w", map[string]string{"o": "1"})
	stale.Generation = 2
	tests := map[string]struct {
		reason           string
		hub, spoke, list []runtime.Object
		want             string
	}{
		"equal": {"nothing to say", []runtime.Object{healthy("w", map[string]string{"o": "1"})}, []runtime.Object{configMap("o", "1")}, []runtime.Object{applied("w")}, ""},
		"missing": {
			"spec did not arrive", []runtime.Object{healthy("w", map[string]string{"o": "1"})}, nil, nil, "missing, missing",
		},
		"different": {
			"the spoke has another value, and so the status is wrong",
			[]runtime.Object{healthy("w", map[string]string{"o": "1"})},
			[]runtime.Object{configMap("o", "0")},
			[]runtime.Object{applied("w")},
			"different, status",
		},
		"extra": {"what is gone on the hub", nil, []runtime.Object{configMap("o", "1")}, []runtime.Object{applied("w")}, "extra, extra"},
		"orphan": {
			"nobody would remove it",
			[]runtime.Object{healthy("w", map[string]string{"o": "1"})},
			[]runtime.Object{configMap("o", "1")},
			[]runtime.Object{lists("w")},
			"inventory",
		},
		"listed and not there": {
			"the inventory has one too many",
			[]runtime.Object{healthy("w", map[string]string{"o": "1"})},
			[]runtime.Object{configMap("o", "1")},
			[]runtime.Object{lists("w", "o", "p")},
			"inventory",
		},
		"stale": {"conditions of another generation", []runtime.Object{stale}, []runtime.Object{configMap("o", "1")}, []runtime.Object{applied("w")}, "status, status"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sides := Sides{Hub: fakeWorks(test.hub...), Spoke: kubefake.NewClientset(test.spoke...), Applied: fakeWorks(test.list...)}
			found, err := sides.Compare(t.Context(), "c")
			require.NoError(t, err)
			require.Equal(t, test.want, kinds(found), "%s: %v", test.reason, found)
			require.Equal(t, test.want == "", found.Err() == nil)
		})
	}
}
