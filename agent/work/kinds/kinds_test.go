// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/yaml"
)

func TestOrder(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     []schema.GroupKind
		want   []int
	}{
		"MW-07_every_rank": {
			reason: "one kind of each rank, given backwards, comes out forwards",
			in: []schema.GroupKind{
				{Group: "example.com", Kind: "Widget"},
				{Group: "apiregistration.k8s.io", Kind: "APIService"},
				{Group: "apps", Kind: "Deployment"},
				{Kind: "Service"},
				{Kind: "ConfigMap"},
				{Kind: "ServiceAccount"},
				{Group: rbac, Kind: "Role"},
				{Kind: "Namespace"},
			},
			want: []int{7, 6, 5, 4, 3, 2, 1, 0},
		},
		"MW-07_stable_within_a_rank": {
			reason: "kinds of one rank keep the author's order",
			in:     []schema.GroupKind{{Kind: "Secret"}, {Kind: "ConfigMap"}, {Kind: "Secret"}, {Kind: "Namespace"}, {Kind: "ConfigMap"}},
			want:   []int{3, 0, 1, 2, 4},
		},
		"a_foreign_group_has_no_rank": {
			reason: "a custom Deployment is not apps/Deployment",
			in:     []schema.GroupKind{{Group: "example.com", Kind: "Namespace"}, {Group: "apps", Kind: "Deployment"}},
			want:   []int{1, 0},
		},
		"nothing": {reason: "no kinds, no order", in: nil, want: []int{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, Order(tc.in), tc.reason) })
	}
}

// listing is a spoke whose kinds a test changes at will.
type listing struct {
	calls int
	lists []*metav1.APIResourceList
	err   error
}

func (l *listing) ServerGroupsAndResourcesWithContext(context.Context) ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	l.calls++
	return nil, l.lists, l.err
}

func core() *metav1.APIResourceList {
	return &metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
		{Name: "pods", Kind: "Pod", Namespaced: true}, {Name: "pods/status", Kind: "Pod", Namespaced: true}, {Name: "namespaces", Kind: "Namespace"},
	}}
}

func widgets(version string) *metav1.APIResourceList {
	return &metav1.APIResourceList{GroupVersion: "example.com/" + version, APIResources: []metav1.APIResource{{Name: "widgets", Kind: "Widget", Namespaced: true}}}
}

// The clock stands still: what was just read is so however slow the machine is.
func TestMapper(t *testing.T) { synctest.Test(t, testMapper) }

func testMapper(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	source := &listing{lists: []*metav1.APIResourceList{core()}}
	mapper := NewMapper(source)

	got, err := mapper.ForKind(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	require.NoError(t, err)
	require.Equal(t, Mapping{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespaced: true}, got)
	require.Equal(t, 1, source.calls, "what is known is not asked again")

	widget := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	_, err = mapper.ForKind(ctx, widget)
	require.ErrorIs(t, err, ErrUnknown)
	require.ErrorContains(t, err, `the server doesn't have a resource type "Widget"`)

	_, err = mapper.ForKind(ctx, schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Gizmo"})
	require.ErrorIs(t, err, ErrUnknown)
	require.Equal(t, 1, source.calls, "what was just read is not read again for each kind that is not in it")

	source.lists = append(source.lists, widgets("v1"))
	_, err = mapper.ForKind(ctx, widget)
	require.NoError(t, err, "a kind that came is found at the next question")

	for range 100 {
		_, _ = mapper.ForKind(ctx, schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Gadget"})
	}
	require.LessOrEqual(t, source.calls, refreshBurst+2, "unknown kinds cost a bounded number of discoveries")
}

func TestMapperWhenAVersionGoes(t *testing.T) {
	source := &listing{lists: []*metav1.APIResourceList{widgets("v1"), widgets("v1beta1")}}
	mapper := NewMapper(source)
	old := schema.GroupVersionResource{Group: "example.com", Version: "v1beta1", Resource: "widgets"}

	got, err := mapper.ForResource(t.Context(), old)
	require.NoError(t, err)
	require.Equal(t, "v1beta1", got.Resource.Version)

	source.lists = source.lists[:1]
	mapper.Forget()
	got, err = mapper.ForResource(t.Context(), old)
	require.NoError(t, err)
	require.Equal(t, "v1", got.Resource.Version, "the object is still there under the version that is left")

	source.lists = nil
	mapper.Forget()
	_, err = mapper.ForResource(t.Context(), old)
	require.ErrorIs(t, err, ErrUnknown)
}

func TestMapperKeepsWhatIsUnreadApartFromWhatIsUnknown(t *testing.T) {
	gv := schema.GroupVersion{Group: "example.com", Version: "v1"}
	source := &listing{lists: []*metav1.APIResourceList{core()}, err: &discovery.ErrGroupDiscoveryFailed{Groups: map[schema.GroupVersion]error{gv: errors.New("backend away")}}}
	mapper := NewMapper(source)

	_, err := mapper.ForKind(t.Context(), schema.GroupVersionKind{Version: "v1", Kind: "Namespace"})
	require.NoError(t, err, "the groups that could be read are known")
	_, err = mapper.ForKind(t.Context(), gv.WithKind("Widget"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrUnknown)
	_, err = mapper.ForResource(t.Context(), gv.WithResource("widgets"))
	require.NotErrorIs(t, err, ErrUnknown, "nothing may be taken for gone because its group cannot be read")

	source.err = errors.New("apiserver away")
	mapper = NewMapper(source)
	_, err = mapper.ForKind(t.Context(), gv.WithKind("Widget"))
	require.ErrorContains(t, err, "apiserver away")
	require.NotErrorIs(t, err, ErrUnknown)
}

func TestCanonical(t *testing.T) {
	deployment := decode(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  paused: false
  nonsense: 1
  template:
    spec:
      containers:
      - name: web
        resources: {limits: {memory: 1024Mi, cpu: 0.5}}`)
	got, err := Canonical(deployment)
	require.NoError(t, err)
	_, found, _ := unstructured.NestedFieldNoCopy(got.Object, "spec", "paused")
	require.False(t, found, "a zero value that is not stored")
	_, found, _ = unstructured.NestedFieldNoCopy(got.Object, "spec", "nonsense")
	require.False(t, found, "a field that the type does not have")
	containers, _, _ := unstructured.NestedSlice(got.Object, "spec", "template", "spec", "containers")
	limits, _, _ := unstructured.NestedStringMap(containers[0].(map[string]any), "resources", "limits")
	require.Equal(t, map[string]string{"memory": "1Gi", "cpu": "500m"}, limits)

	widget := decode(t, "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, spec: {memory: 1024Mi}}")
	got, err = Canonical(widget)
	require.NoError(t, err)
	require.Same(t, widget, got, "a custom resource is stored as it was written")

	_, err = Canonical(decode(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: 3}"))
	require.ErrorContains(t, err, `ConfigMap "c"`)
}

func decode(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &obj.Object))
	return obj
}
