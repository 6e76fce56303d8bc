// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/test/env"
)

// TestT76_rights_in_one_namespace gives a person works in one cluster's
// namespace and tries every call for another's.
func TestT76_rights_in_one_namespace(t *testing.T) {
	const t76 = "system:serviceaccount:people:t76"
	f := newFace(t)
	cluster := f.cluster(t, "t76-c1")
	other := f.cluster(t, "t76-c2")
	ctx := f.as(t, "t76", cluster, works())
	answer, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1))})
	require.NoError(t, err)
	require.EqualValues(t, 1, answer.GetGeneration())

	calls := map[string]func(cluster string) error{
		"ApplyWork": func(c string) error {
			_, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: c, Name: "w", WorkJson: workJSON(manifest("a", 1))})
			return err
		},
		"GetWork": func(c string) error {
			_, err := f.Works.GetWork(ctx, &adminv1.GetWorkRequest{ClusterName: c, Name: "w"})
			return err
		},
		"ListWorks": func(c string) error {
			_, err := f.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: c})
			return err
		},
		"DeleteWork": func(c string) error {
			_, err := f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: c, Name: "w"})
			return err
		},
		"ExplainDelivery": func(c string) error {
			_, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: c, Name: "w"})
			return err
		},
		"ListHeldDeletes": func(c string) error {
			_, err := f.Works.ListHeldDeletes(ctx, &adminv1.ListHeldDeletesRequest{ClusterName: c})
			return err
		},
		"ReleaseHeldDeletes": func(c string) error {
			_, err := f.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: c, BatchId: "b"})
			return err
		},
		"WatchWorks": func(c string) error {
			stream, err := f.Works.WatchWorks(ctx, &adminv1.WatchWorksRequest{ClusterName: c})
			require.NoError(t, err)
			_, err = stream.Recv()
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			_, before, err := f.plane.AuditEventsFrom(0)
			require.NoError(t, err)
			requireReason(t, call(other), codes.PermissionDenied, reason.PermissionDenied)
			events, _, err := f.plane.AuditEventsFrom(before)
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(events, func(e auditv1.Event) bool { return asked(e, t76, other) }), "the apiserver's audit log names who tried")
		})
	}
	events, err := f.plane.AuditEvents()
	require.NoError(t, err)
	written := false
	for _, e := range events {
		if e.ObjectRef != nil && e.ObjectRef.Namespace == cluster && e.Verb == "create" && e.ObjectRef.Resource == "manifestworks" {
			written = true
			require.Equal(t, t76, e.User.Username, "T70: the apiserver's audit log names the person")
		}
		if e.ObjectRef != nil && e.ObjectRef.Namespace == other && e.ObjectRef.Resource == "manifestworks" {
			require.GreaterOrEqual(t, e.ResponseStatus.Code, int32(400), "no call on t76-c2 succeeded")
		}
	}
	require.True(t, written)
}

// asked tells whether the event is the apiserver's refusal of works in the namespace to
// the user or, where the hub acts, the user's own question whether it is allowed.
func asked(e auditv1.Event, user, namespace string) bool {
	switch {
	case e.User.Username != user || e.ObjectRef == nil || e.ResponseStatus == nil:
		return false
	case e.ObjectRef.Resource == "selfsubjectaccessreviews":
		return true
	}
	return e.ObjectRef.Resource == "manifestworks" && e.ObjectRef.Namespace == namespace && e.ResponseStatus.Code == http.StatusForbidden
}

func TestApplyWork(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "apply")
	ctx := f.as(t, "apply", "", works(), looks())
	cases := map[string]struct {
		reason  string
		request *adminv1.ApplyWorkRequest
		code    codes.Code
		why     string
	}{
		"unknown cluster": {"nobody has that name", &adminv1.ApplyWorkRequest{ClusterName: "nobody", Name: "w", WorkJson: workJSON(manifest("a", 1))}, codes.NotFound, reason.UnknownCluster},
		"no label":        {"names are RFC 1123 labels", &adminv1.ApplyWorkRequest{ClusterName: "Not_A.Label", Name: "w", WorkJson: workJSON(manifest("a", 1))}, codes.InvalidArgument, reason.InvalidName},
		"no name":         {"a work needs one", &adminv1.ApplyWorkRequest{ClusterName: cluster, WorkJson: workJSON(manifest("a", 1))}, codes.InvalidArgument, reason.InvalidName},
		"long name":       {"MW-06", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: strings.Repeat("a", 189), WorkJson: workJSON(manifest("a", 1))}, codes.InvalidArgument, reason.InvalidName},
		"no JSON":         {"cut text", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: "{"}, codes.InvalidArgument, reason.Undecodable},
		"other kind":      {"a ConfigMap is no work", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: manifest("a", 1)}, codes.InvalidArgument, reason.Undecodable},
		"no manifests":    {"WH-14", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON()}, codes.InvalidArgument, reason.InvalidArgument},
		"no kind":         {"cannot be applied", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(`{"apiVersion":"v1","metadata":{"name":"a"}}`)}, codes.InvalidArgument, reason.Undecodable},
		"no object":       {"WH-15", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(`"text"`)}, codes.InvalidArgument, reason.Undecodable},
		"generateName":    {"WH-15", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"a"}}`)}, codes.InvalidArgument, reason.Undecodable},
		"duplicate":       {"WH-15", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1), manifest("a", 2))}, codes.InvalidArgument, reason.InvalidArgument},
		"over the limit":  {"WH-16", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", limit))}, codes.InvalidArgument, reason.ObjectTooLarge},
		"far over":        {"not even decoded", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 3<<20))}, codes.InvalidArgument, reason.ObjectTooLarge},
		"labels":          {"T74", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: strings.Replace(workJSON(manifest("a", 1)), `"spec"`, `"metadata":{"labels":{"a":"`+strings.Repeat("x", 320<<10)+`"}},"spec"`, 1)}, codes.InvalidArgument, reason.ObjectTooLarge},
		"deeply nested":   {"T74", &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000))}, codes.InvalidArgument, reason.Undecodable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := f.Works.ApplyWork(ctx, tc.request)
			requireReason(t, err, tc.code, tc.why)
		})
	}
	list, err := f.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: cluster})
	require.NoError(t, err)
	require.Empty(t, list.GetWorks(), "nothing half-made is left")
	for _, name := range []string{"../x", "a/b", "", ".."} { // which no apiserver is asked about
		_, err := f.Works.GetWork(ctx, &adminv1.GetWorkRequest{ClusterName: name, Name: "w"})
		requireReason(t, err, codes.InvalidArgument, reason.InvalidName)
		_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: cluster, Name: name})
		requireReason(t, err, codes.InvalidArgument, reason.InvalidName)
		_, err = f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: name})
		requireReason(t, err, codes.InvalidArgument, reason.InvalidName)
		_, err = f.Clusters.GetCluster(ctx, &adminv1.GetClusterRequest{Name: name})
		requireReason(t, err, codes.InvalidArgument, reason.InvalidName)
	}
	_, err = f.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: "../x"})
	requireReason(t, err, codes.InvalidArgument, reason.InvalidName)
}

func TestApplyWorkIsIdempotent(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "idem")
	ctx := f.as(t, "idem", "", works(), looks())
	request := &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1))}
	dry := &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: request.GetWorkJson(), DryRun: true}
	answer, err := f.Works.ApplyWork(ctx, dry)
	require.NoError(t, err)
	require.EqualValues(t, len(manifest("a", 1)), answer.GetSize())
	require.EqualValues(t, limit, answer.GetLimit())
	_, err = f.Works.GetWork(ctx, &adminv1.GetWorkRequest{ClusterName: cluster, Name: "w"})
	requireReason(t, err, codes.NotFound, reason.NotFound)

	first, err := f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	require.Len(t, first.GetDigest(), 64)
	again, err := f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	require.Equal(t, first.GetResourceVersion(), again.GetResourceVersion(), "a repeat writes nothing")

	changed, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("b", 1))})
	require.NoError(t, err)
	require.EqualValues(t, 2, changed.GetGeneration())
	require.Equal(t, first.GetUid(), changed.GetUid())
	_, err = f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: request.GetWorkJson(), ExpectedResourceVersion: first.GetResourceVersion()})
	requireReason(t, err, codes.Aborted, reason.Conflict)

	var stored struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	require.NoError(t, json.Unmarshal([]byte(changed.GetWorkJson()), &stored))
	require.Equal(t, []string{"cluster.open-cluster-management.io/manifest-work-cleanup"}, stored.Metadata.Finalizers, "MW-02, with the first write")
	_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: cluster, Name: "w", Uid: "another"})
	requireReason(t, err, codes.Aborted, reason.Conflict)
	_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: cluster, Name: "w", Uid: first.GetUid()})
	require.NoError(t, err)
}

func TestReleaseNamesTheBatch(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "held")
	ctx := f.as(t, "releaser", cluster, works())
	_, err := f.Works.ListHeldDeletes(ctx, &adminv1.ListHeldDeletesRequest{ClusterName: cluster})
	requireReason(t, err, codes.FailedPrecondition, reason.NotFound)
	f.with(func(r *rooms) {
		r.known, r.held = true, []*adminv1.HeldBatch{{BatchId: "b1", Names: []string{"w"}, Reason: "it was restored"}}
	})
	_, err = f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	require.ErrorContains(t, err, "holds batch b1, of 1 works, because it was restored")
	_, err = f.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: cluster, BatchId: "b2"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	_, err = f.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: cluster, BatchId: "b1"})
	require.NoError(t, err)
	require.Equal(t, []string{"release " + cluster + " b1"}, f.did())
}

// TestMW68_held_on_the_spoke: what another hub brought is shown, told from works of
// the same name, and not this hub's to release.
func TestMW68_held_on_the_spoke(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "spokes")
	ctx := f.as(t, "evictor", cluster, works())
	left := strings.Repeat("0a", 32) + "-w-2"
	f.with(func(r *rooms) {
		r.known = true
		r.held = []*adminv1.HeldBatch{{ClusterName: cluster, BatchId: "b1", Names: []string{left, "w"}, Reason: "nobody has them", OnSpoke: true}}
	})
	_, err := f.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: cluster, BatchId: "b1"})
	requireReason(t, err, codes.FailedPrecondition, reason.HeldOnSpoke)
	require.ErrorContains(t, err, "«kubectl delete appliedmanifestwork "+left+"»")
	require.Empty(t, f.did())
	_, err = f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w-2"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	require.ErrorContains(t, err, "«kubectl delete appliedmanifestwork "+left+"»")
	for _, other := range []string{"w", "2", left} { // works of these names have nothing to do with it
		_, err = f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: other})
		requireReason(t, err, codes.NotFound, reason.NotFound)
		require.NotContains(t, err.Error(), "appliedmanifestwork", other)
	}
	_, err = f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1))})
	require.NoError(t, err)
	answer, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
	require.NoError(t, err)
	require.NotContains(t, answer.String(), "stays on the spoke", "another thing of that name is held, not this")
}

func TestExplainDelivery(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "explain")
	ctx := f.as(t, "explainer", "", works(), looks())
	_, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	_, err = f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1))})
	require.NoError(t, err)
	verdict := func() string {
		answer, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
		require.NoError(t, err)
		return answer.GetVerdict()
	}
	require.Contains(t, verdict(), `stands before "session"`)
	f.with(func(r *rooms) {
		r.sessions = []*adminv1.SessionInfo{{ClusterName: cluster, SessionId: "s", HubReplica: "r1"}}
	})
	require.Contains(t, verdict(), "unknown at hub replica r1")
	f.with(func(r *rooms) { r.known, r.state = true, admin.DeliveryState{Waiting: true} })
	require.Contains(t, verdict(), `stands before "sent"`)
	f.with(func(r *rooms) { r.state = admin.DeliveryState{Sent: time.Now()} })
	require.Contains(t, verdict(), "not acknowledged yet")
	f.with(func(r *rooms) { r.state = admin.DeliveryState{Waiting: true, Refused: "INTERNAL: no space left"} })
	require.Contains(t, verdict(), `"stored": the agent could not take it and is sent it again: INTERNAL: no space left`)
	f.with(func(r *rooms) { r.state = admin.DeliveryState{Rejected: "UNDECODABLE: manifests[0]"} })
	require.Contains(t, verdict(), "refused this revision: UNDECODABLE")
	f.with(func(r *rooms) { r.state = admin.DeliveryState{} })
	require.Contains(t, verdict(), `stands before "applied"`)

	status := []byte(`{"status":{"conditions":[{"type":"ManagedClusterConditionAvailable","status":"False","reason":"R","message":"its apiserver is ill","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	_, err = f.clusters.ClusterV1().ManagedClusters().Patch(t.Context(), cluster, "application/merge-patch+json", status, metav1.PatchOptions{}, "status")
	require.NoError(t, err)
	require.Contains(t, verdict(), "not reported it yet; the cluster is not available: its apiserver is ill")
	accepted := []byte(`{"spec":{"hubAcceptsClient":false}}`)
	_, err = f.clusters.ClusterV1().ManagedClusters().Patch(t.Context(), cluster, "application/merge-patch+json", accepted, metav1.PatchOptions{})
	require.NoError(t, err)
	require.Contains(t, verdict(), "the hub has not accepted the cluster: «fairlead accept "+cluster+"»")
}

// TestClusterless is a hub that serves by certificate alone: no ManagedCluster is
// asked for, and no enrollment.
func TestClusterless(t *testing.T) {
	f := newFaceOf(t, env.Shared(t).RESTConfig(), func(c *admin.Config) {
		c.Clusterless, c.Enrollments = true, nil
	})
	ctx := f.as(t, "clusterless", "", works(), looks())
	cluster := f.plane.Unique("no-object")
	request := &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1))}
	_, err := f.Works.ApplyWork(ctx, request)
	requireReason(t, err, codes.FailedPrecondition, reason.NotFound)
	require.ErrorContains(t, err, fmt.Sprintf("no namespace %q", cluster))
	_, err = f.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: cluster}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	answer, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
	require.NoError(t, err)
	require.Contains(t, answer.GetVerdict(), `stands before "session"`)
	_, err = f.Clusters.ListClusters(ctx, &adminv1.ListClustersRequest{})
	require.NoError(t, err)
}

// TestApplyWorkKeepsWhatOthersAdded applies a work that has numbers beyond what
// a float64 can hold, beside labels of somebody else.
func TestApplyWorkKeepsWhatOthersAdded(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "numbers")
	ctx := f.as(t, "numbers", "", works(), looks())
	big := `{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"n"},"spec":{"count":9007199254740993,"replicas":2}}`
	work := strings.Replace(workJSON(big), `"spec"`, `"metadata":{"labels":{"mine":"1"}},"spec"`, 1)
	request := &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: work}
	first, err := f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	require.Contains(t, first.GetWorkJson(), "9007199254740993", "no digit is lost")

	patch := []byte(`{"metadata":{"labels":{"theirs":"1"},"annotations":{"theirs":"1"}}}`)
	_, err = f.kube.CoreV1().RESTClient().Patch("application/merge-patch+json").AbsPath("/apis/work.open-cluster-management.io/v1/namespaces/" + cluster + "/manifestworks/w").Body(patch).DoRaw(ctx)
	require.NoError(t, err)
	before, err := f.plane.AuditEvents(updates(cluster))
	require.NoError(t, err)
	again, err := f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	require.EqualValues(t, 1, again.GetGeneration())
	require.Contains(t, again.GetWorkJson(), `"theirs":"1"`)
	after, err := f.plane.AuditEvents(updates(cluster))
	require.NoError(t, err)
	require.Len(t, after, len(before), "a repeat does not even ask for a write")
}

func updates(namespace string) func(*auditv1.Event) bool {
	return func(e *auditv1.Event) bool {
		return e.ObjectRef != nil && e.ObjectRef.Namespace == namespace && e.Verb == "update" && e.ObjectRef.Resource == "manifestworks"
	}
}

// TestListWorksStaysUnderTheLimitOfClients lists more than 4 MiB of works with a
// client that takes no more than that in one answer.
func TestListWorksStaysUnderTheLimitOfClients(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "pages")
	ctx := f.as(t, "pages", "", works(), looks())
	const count = 230
	for i := range count {
		_, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: fmt.Sprintf("w%03d", i), WorkJson: workJSON(manifest("a", limit-200))})
		require.NoError(t, err)
	}
	seen := map[string]bool{}
	pages := 0
	for request := (&adminv1.ListWorksRequest{ClusterName: cluster, PageSize: maxPageSize}); ; pages++ {
		answer, err := f.Works.ListWorks(ctx, request)
		require.NoError(t, err)
		for _, w := range answer.GetWorks() {
			require.False(t, seen[w.GetRef().GetName()], "%s comes twice", w.GetRef().GetName())
			seen[w.GetRef().GetName()] = true
		}
		if request.PageToken = answer.GetNextPageToken(); request.GetPageToken() == "" {
			break
		}
	}
	require.Len(t, seen, count)
	require.Less(t, pages, 5)
	_, err := f.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: cluster, PageSize: maxPageSize + 1})
	requireReason(t, err, codes.InvalidArgument, reason.InvalidArgument)
	three, err := f.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: cluster, PageSize: 3})
	require.NoError(t, err)
	require.Len(t, three.GetWorks(), 3)
}

const maxPageSize = 5000
