// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairlead.dev/fairlead/agent/work/apply"
)

func TestContest(t *testing.T) {
	at := func(seconds int64) *metav1.Time { return &metav1.Time{Time: time.Unix(seconds, 0)} }
	live := &unstructured.Unstructured{Object: map[string]any{}}
	live.SetManagedFields([]metav1.ManagedFieldsEntry{
		{Manager: "before", Time: at(5)},
		{Manager: "hpa", Time: at(10)},
		{Manager: "kubelet", Subresource: "status", Time: at(30)},
		{Manager: "work-agent", Time: at(40)},
	})
	now := time.Unix(100, 0)
	r := &remembered{corrections: rate.NewLimiter(rate.Every(correctionEvery), correctionBurst)}
	require.True(t, r.corrections.AllowN(now, correctionBurst))
	r.contest(apply.Result{Live: live, Action: apply.Unchanged}, "work-agent", "ours", now)
	require.Empty(t, r.contested, "it was corrected each time until now")
	r.contest(apply.Result{Live: live, Action: apply.Held, Why: "spec.replicas"}, "work-agent", "ours", now)
	require.Equal(t, `spec.replicas is set otherwise again and again by manager "hpa", so it is corrected every 30s only; an object belongs to one of them`, r.contested)

	said := r.contested
	r.contest(apply.Result{Live: live, Action: apply.Held, Why: "spec.paused"}, "work-agent", "ours", now.Add(correctionEvery))
	require.Equal(t, said, r.contested, "what is said stays, or each correction would be a write on the hub")
	r.contest(apply.Result{Live: live, Action: apply.Unchanged}, "work-agent", "ours", now.Add(correctionBurst/2*correctionEvery))
	require.Empty(t, r.contested, "there was quiet for a while")

	owner := apply.OwnerReference
	live.SetOwnerReferences([]metav1.OwnerReference{owner("hash-web", "ours"), owner("hash-web-2", "theirs"), {APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x", UID: "else"}})
	require.Equal(t, "work web-2", rival(live, "work-agent", "ours"), "another work that has the object comes first")
	require.Equal(t, "somebody", rival(&unstructured.Unstructured{Object: map[string]any{}}, "work-agent", "ours"))
}
