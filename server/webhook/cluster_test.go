// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// hub answers reviews, and has one namespace if phase is set.
type hub struct {
	reviewer
	phase corev1.NamespacePhase
}

func (h *hub) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	namespace, ok := o.(*corev1.Namespace)
	if !ok || h.phase == "" {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, key.Name)
	}
	namespace.Status.Phase = h.phase
	return nil
}

func newWebhooks(t *testing.T, defaultSet bool) (*Webhooks, *hub) {
	t.Helper()
	h := &hub{reviewer: reviewer{allows: true}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	w, err := New(Config{Client: h, DefaultSet: defaultSet, Clock: testingclock.NewFakePassiveClock(at)})
	require.NoError(t, err)
	return w, h
}

func managed(set, spec string) string {
	return fmt.Sprintf(`{"metadata":{"name":"c1","labels":{"cluster.open-cluster-management.io/clusterset":%q}},"spec":{%s}}`, set, spec)
}

const accepts = `"hubAcceptsClient":true`

// TestClusters: which rights are asked for, and that a no is a no.
func TestClusters(t *testing.T) {
	accept := authorizationv1.ResourceAttributes{Verb: "update", Group: "register.open-cluster-management.io", Resource: "managedclusters", Subresource: "accept", Name: "c1"}
	join := func(set string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Verb: "create", Group: "cluster.open-cluster-management.io", Resource: "managedclustersets", Subresource: "join", Name: set}
	}
	for name, tc := range map[string]struct {
		old, object string // no old one: it is new
		asked       []authorizationv1.ResourceAttributes
	}{
		"WH-08 new and accepted":         {"", managed("", accepts), []authorizationv1.ResourceAttributes{accept}},
		"WH-08 accepted later":           {managed("", ""), managed("", accepts), []authorizationv1.ResourceAttributes{accept}},
		"WH-10 accepted before":          {managed("", accepts), managed("", accepts+`,"leaseDurationSeconds":5`), nil},
		"WH-10 denied":                   {managed("", accepts), managed("", ""), nil},
		"WH-11 new in a set":             {"", managed("a", ""), []authorizationv1.ResourceAttributes{join("a")}},
		"WH-11 moved":                    {managed("a", ""), managed("b", ""), []authorizationv1.ResourceAttributes{join("a"), join("b")}},
		"WH-11 taken out":                {managed("a", ""), managed("", ""), []authorizationv1.ResourceAttributes{join("a")}},
		"WH-11 stays":                    {managed("a", ""), managed("a", `"leaseDurationSeconds":5`), nil},
		"WH-08 WH-11 accepted and moved": {managed("", ""), managed("b", accepts), []authorizationv1.ResourceAttributes{accept, join("b")}},
	} {
		t.Run(name, func(t *testing.T) {
			w, h := newWebhooks(t, true)
			operation := admissionv1.Update
			if tc.old == "" {
				operation = admissionv1.Create
			}
			require.True(t, w.validateCluster(t.Context(), request(operation, tc.object, tc.old)).Allowed)
			require.Len(t, h.asked, len(tc.asked))
			for i, right := range tc.asked {
				require.Equal(t, right, *h.asked[i].ResourceAttributes)
				require.Equal(t, "bob", h.asked[i].User)
			}
			if len(tc.asked) == 0 {
				return
			}
			h.allows = false
			refused := w.validateCluster(t.Context(), request(operation, tc.object, tc.old))
			require.False(t, refused.Allowed)
			require.EqualValues(t, http.StatusForbidden, refused.Result.Code)
		})
	}
	t.Run("WH-09", func(t *testing.T) {
		w, h := newWebhooks(t, true)
		h.phase = corev1.NamespaceActive
		require.True(t, w.validateCluster(t.Context(), request(admissionv1.Create, managed("", accepts), "")).Allowed)
		h.phase = corev1.NamespaceTerminating
		require.EqualValues(t, http.StatusForbidden, w.validateCluster(t.Context(), request(admissionv1.Create, managed("", accepts), "")).Result.Code)
		require.True(t, w.validateCluster(t.Context(), request(admissionv1.Create, managed("", ""), "")).Allowed, "it is about acceptance")
	})
	t.Run("WH-06", func(t *testing.T) {
		w, _ := newWebhooks(t, true)
		for url, allowed := range map[string]bool{"https://a:6443": true, "HTTPS://a": true, "http://a": false, "a": false, "https:": false, "https://a\u0000": false} {
			object := managed("", fmt.Sprintf(`"managedClusterClientConfigs":[{"url":%q}]`, url))
			require.Equal(t, allowed, w.validateCluster(t.Context(), request(admissionv1.Create, object, "")).Allowed, url)
		}
	})
	t.Run("what is no cluster", func(t *testing.T) {
		w, _ := newWebhooks(t, true)
		require.EqualValues(t, http.StatusBadRequest, w.validateCluster(t.Context(), request(admissionv1.Create, `{"spec":1}`, "")).Result.Code)
		require.EqualValues(t, http.StatusBadRequest, w.mutateCluster(t.Context(), request(admissionv1.Create, `{"spec":1}`, "")).Result.Code)
		require.EqualValues(t, http.StatusBadRequest, w.validateBinding(t.Context(), request(admissionv1.Create, `{"spec":1}`, "")).Result.Code)
	})
}

// TestClusterDefaults is the patch that a cluster gets.
func TestClusterDefaults(t *testing.T) {
	const labels, now, hour = `{"op":"add","path":"/metadata/labels","value":{"cluster.open-cluster-management.io/clusterset":"default"}}`, "2026-01-02T03:04:05Z", "2026-01-01T00:00:00Z"
	const label = `{"op":"add","path":"/metadata/labels/cluster.open-cluster-management.io~1clusterset","value":"default"}`
	added := func(i int, at string) string {
		return fmt.Sprintf(`{"op":"add","path":"/spec/taints/%d/timeAdded","value":%q}`, i, at)
	}
	taint := func(key, value, at string) string {
		return fmt.Sprintf(`"taints":[{"key":%q,"value":%q,"effect":"NoSelect","timeAdded":%s}]`, key, value, at)
	}
	for name, tc := range map[string]struct {
		old, object, want string
		gateOff           bool
	}{
		"WH-04 no labels":        {"", `{"metadata":{}}`, "[" + labels + "]", false},
		"WH-04 an empty label":   {"", managed("", ""), "[" + label + "]", false},
		"WH-04 later":            {managed("a", ""), managed("", ""), "[" + label + "]", false},
		"WH-04 in a set":         {"", managed("a", ""), "", false},
		"WH-04 the gate is off":  {"", managed("", ""), "", true},
		"WH-04 on its way out":   {`{}`, `{"metadata":{"deletionTimestamp":"` + hour + `"}}`, "", false},
		"WH-02 new":              {"", managed("a", taint("k", "v", `"`+hour+`"`)), "[" + added(0, now) + "]", false},
		"WH-03 added":            {managed("a", ""), managed("a", taint("k", "v", "null")), "[" + added(0, now) + "]", false},
		"WH-03 added with time":  {managed("a", ""), managed("a", taint("k", "v", `"`+hour+`"`)), "refused", false},
		"WH-03 changed":          {managed("a", taint("k", "1", `"`+hour+`"`)), managed("a", taint("k", "2", `"`+hour+`"`)), "[" + added(0, now) + "]", false},
		"WH-03 changed and time": {managed("a", taint("k", "1", `"`+hour+`"`)), managed("a", taint("k", "2", `"`+now+`"`)), "refused", false},
		"WH-03 as it was":        {managed("a", taint("k", "1", `"`+hour+`"`)), managed("a", taint("k", "1", `"`+hour+`"`)), "", false},
		"WH-03 left out":         {managed("a", taint("k", "1", `"`+hour+`"`)), managed("a", taint("k", "1", "null")), "[" + added(0, hour) + "]", false},
		"WH-03 only the time":    {managed("a", taint("k", "1", `"`+hour+`"`)), managed("a", taint("k", "1", `"`+now+`"`)), "refused", false},
	} {
		t.Run(name, func(t *testing.T) {
			w, h := newWebhooks(t, !tc.gateOff)
			operation := admissionv1.Update
			if tc.old == "" {
				operation = admissionv1.Create
			}
			answer := w.mutateCluster(t.Context(), request(operation, tc.object, tc.old))
			require.Empty(t, h.asked, "whoever it is")
			switch tc.want {
			case "refused":
				require.EqualValues(t, http.StatusBadRequest, answer.Result.Code)
			case "":
				require.True(t, answer.Allowed)
				require.Empty(t, answer.Patch)
			default:
				require.JSONEq(t, tc.want, string(answer.Patch))
			}
		})
	}
}

// TestBindings: a set is bound under its own name, by those who may.
func TestBindings(t *testing.T) {
	w, h := newWebhooks(t, true)
	binding := func(name, set string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"clusterSet":%q}}`, name, set)
	}
	require.EqualValues(t, http.StatusBadRequest, w.validateBinding(t.Context(), request(admissionv1.Create, binding("a", "b"), "")).Result.Code, "WH-12")
	require.Empty(t, h.asked)
	require.True(t, w.validateBinding(t.Context(), request(admissionv1.Create, binding("a", "a"), "")).Allowed)
	require.Equal(t, authorizationv1.ResourceAttributes{
		Verb: "create", Group: "cluster.open-cluster-management.io", Resource: "managedclustersets", Subresource: "bind", Name: "a",
	}, *h.asked[0].ResourceAttributes, "WH-13")
	h.allows = false
	require.EqualValues(t, http.StatusForbidden, w.validateBinding(t.Context(), request(admissionv1.Create, binding("a", "a"), "")).Result.Code)
	require.True(t, w.validateBinding(t.Context(), request(admissionv1.Update, binding("a", "a"), binding("a", "a"))).Allowed)
	require.EqualValues(t, http.StatusForbidden, w.validateBinding(t.Context(), request(admissionv1.Update, binding("a", "a"), binding("a", "b"))).Result.Code,
		"one that was made without admission binds its set now")
}
