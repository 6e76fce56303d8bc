// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// workText is a ManifestWork as the hub has it: applied at one generation, and
// its Deployment with some of two replicas ready.
func workText(cluster, name string, generation, applied, ready int) string {
	created := now().Add(-90 * time.Second).Format(time.RFC3339)
	available, message := "True", "all is available"
	if ready < 2 {
		available, message = "False", "Deployment hello: 1 of 2 replicas are ready"
	}
	condition := func(kind, status, message string) string {
		return fmt.Sprintf(`{"type":%q,"status":%q,"reason":"R","message":%q,"observedGeneration":%d,"lastTransitionTime":%q}`, kind, status, message, applied, created)
	}
	value := func(name string, n int) string {
		return fmt.Sprintf(`{"name":%q,"fieldValue":{"type":"Integer","integer":%d}}`, name, n)
	}
	return strings.NewReplacer("CREATED", created, "CLUSTER", cluster, "NAME", name, "GENERATION", strconv.Itoa(generation),
		"CONDITIONS", condition("Applied", "True", "applied")+","+condition("Available", available, message),
		"OWN", condition("Available", available, message), "VALUES", value("ReadyReplicas", ready)+","+value("Replicas", 2)).Replace(
		`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"NAME","namespace":"CLUSTER","uid":"u-NAME","generation":GENERATION,"creationTimestamp":"CREATED",` +
			`"managedFields":[{"manager":"fairlead"}],"annotations":{"big":"9007199254740993"}},` +
			`"spec":{"workload":{"manifests":[{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"hello","namespace":"hello"},"spec":{"replicas":2,"big":9007199254740993}}]}},` +
			`"status":{"conditions":[CONDITIONS],"resourceStatus":{"manifests":[{"resourceMeta":{"ordinal":0,"group":"apps","version":"v1","kind":"Deployment","resource":"deployments","name":"hello","namespace":"hello"},` +
			`"conditions":[OWN],"statusFeedback":{"values":[VALUES]}}]}}}`)
}

func workOf(cluster, name, text string) *adminv1.Work {
	return &adminv1.Work{Ref: &adminv1.WorkRef{ClusterName: cluster, Name: name}, WorkJson: text}
}

func allWorks() []*adminv1.Work {
	return []*adminv1.Work{
		workOf("eu-1", "hello", workText("eu-1", "hello", 1, 1, 2)),
		workOf("eu-1", "web", workText("eu-1", "web", 2, 1, 2)),
		workOf("us-1", "hello", workText("us-1", "hello", 1, 1, 1)),
		workOf("us-1", "fresh", `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"fresh","namespace":"us-1","generation":1}}`),
	}
}

// leaving is a work that is being deleted and has to wait.
func leaving() *adminv1.Work {
	return workOf("eu-3", "old", `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"old","namespace":"eu-3","generation":1,"deletionTimestamp":"2026-11-22T11:59:00Z"},`+
		`"status":{"conditions":[{"type":"Applied","status":"True","observedGeneration":1},{"type":"Deleting","status":"True","observedGeneration":1,`+
		`"message":"waiting for 1 resources to go: configmaps ns/c; removing configmaps ns/c: it waits for its finalizers [\"example.com/keep\"]"}]}}`)
}

func (h *fakeHub) ListWorks(_ context.Context, r *adminv1.ListWorksRequest) (*adminv1.ListWorksResponse, error) {
	answer := &adminv1.ListWorksResponse{}
	if r.GetClusterName() == "us-2" {
		return nil, refuse(codes.PermissionDenied, reason.PermissionDenied, `listing works of "us-2": manifestworks is forbidden: User "alice" cannot list`)
	}
	if r.GetClusterName() == leaving().GetRef().GetClusterName() {
		answer.Works = append(answer.Works, leaving())
	}
	for _, w := range allWorks() {
		if c := r.GetClusterName(); c == "" || c == w.GetRef().GetClusterName() {
			answer.Works = append(answer.Works, w)
		}
	}
	return answer, nil
}

func (h *fakeHub) GetWork(_ context.Context, r *adminv1.GetWorkRequest) (*adminv1.GetWorkResponse, error) {
	for _, w := range allWorks() {
		if w.GetRef().GetClusterName() == r.GetClusterName() && w.GetRef().GetName() == r.GetName() {
			return &adminv1.GetWorkResponse{WorkJson: w.GetWorkJson()}, nil
		}
	}
	return nil, refuse(codes.NotFound, reason.NotFound, "reading work %q of cluster %q: not found", r.GetName(), r.GetClusterName())
}

// WatchWorks has a work come, become available, and go when it is deleted.
func (h *fakeHub) WatchWorks(r *adminv1.WatchWorksRequest, stream grpc.ServerStreamingServer[adminv1.WatchWorksResponse]) error {
	upsert := func(text string) {
		_ = stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Upsert{Upsert: workOf(r.GetClusterName(), r.GetName(), text)}})
	}
	synced := &adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Bookmark{Bookmark: &adminv1.Bookmark{InitialSyncComplete: true}}}
	cluster, name := r.GetClusterName(), r.GetName()
	switch cluster {
	case "": // of all clusters, as a person looks on
		upsert(workText("eu-1", "hello", 1, 1, 1))
		_ = stream.Send(synced)
		upsert(workText("eu-1", "hello", 1, 1, 2))
		_ = stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Removed{Removed: &adminv1.WorkRef{ClusterName: "eu-1", Name: "hello"}}})
		return nil
	case "us-1": // never gets there
		upsert(workText(cluster, name, 1, 1, 1))
		_ = stream.Send(synced)
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	upsert(workText(cluster, name, 2, 1, 2))
	_ = stream.Send(synced)
	upsert(workText(cluster, name, 2, 2, 1))
	upsert(workText(cluster, name, 2, 2, 2))
	_ = stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Removed{Removed: &adminv1.WorkRef{ClusterName: cluster, Name: name}}})
	<-stream.Context().Done()
	return nil
}

func (h *fakeHub) ApplyWork(_ context.Context, r *adminv1.ApplyWorkRequest) (*adminv1.ApplyWorkResponse, error) {
	switch {
	case r.GetClusterName() == "nobody":
		return nil, refuse(codes.NotFound, reason.UnknownCluster, "no cluster %q", r.GetClusterName())
	case !json.Valid([]byte(r.GetWorkJson())):
		return nil, refuse(codes.InvalidArgument, reason.Undecodable, "work_json is no JSON")
	}
	return &adminv1.ApplyWorkResponse{Generation: 1, Size: 300, Limit: 512_000}, nil
}

func (h *fakeHub) DeleteWork(context.Context, *adminv1.DeleteWorkRequest) (*adminv1.DeleteWorkResponse, error) {
	return &adminv1.DeleteWorkResponse{}, nil
}

func (h *fakeHub) ExplainDelivery(_ context.Context, r *adminv1.ExplainDeliveryRequest) (*adminv1.ExplainDeliveryResponse, error) {
	stop := func(name string, state adminv1.StopState, since time.Duration, detail string) *adminv1.DeliveryStop {
		return &adminv1.DeliveryStop{Name: name, State: state, Detail: detail, Time: ago(since)}
	}
	const passed, waiting = adminv1.StopState_STOP_STATE_PASSED, adminv1.StopState_STOP_STATE_WAITING
	if r.GetName() == "vanished" {
		return nil, refuse(codes.NotFound, reason.NotFound, "the hub has no work %q of cluster %q any more, and what it applied stays: its agent holds batch b7f3, of 2 works, because the hub was restored; if they are really meant to go: «fairlead release eu-1 b7f3»", r.GetName(), r.GetClusterName())
	}
	answer := &adminv1.ExplainDeliveryResponse{
		Verdict: fmt.Sprintf(`%s/%s stands before "stored": sent 3s ago, not acknowledged yet`, r.GetClusterName(), r.GetName()), HubGeneration: 2, SessionId: "s-1", HubReplica: "hub-1",
		Stops: []*adminv1.DeliveryStop{
			stop("hub-object", passed, time.Hour, "generation 2"),
			{Name: "cluster-accepted", State: passed, Detail: "accepted"},
			stop("session", passed, 2*time.Hour, "s-1 on hub replica hub-1"),
			stop("sent", passed, 3*time.Second, "sent"), stop("stored", waiting, 3*time.Second, "sent 3s ago, not acknowledged yet"),
			{Name: "applied", State: adminv1.StopState_STOP_STATE_FAILED, Detail: "the spoke says no"},
			{Name: "available", State: adminv1.StopState_STOP_STATE_UNKNOWN, Detail: "hub replica hub-2 knows"},
		},
		Manifests: []*adminv1.ManifestVerdict{{Ordinal: 3, Resource: "apps/v1 Deployment hello/hello", Condition: "Applied", Message: "Applied=False: namespaces \"hello\" not found"}},
	}
	return answer, nil
}

func (h *fakeHub) ListHeldDeletes(_ context.Context, r *adminv1.ListHeldDeletesRequest) (*adminv1.ListHeldDeletesResponse, error) {
	moved := &adminv1.HeldBatch{ClusterName: "eu-2", BatchId: "c0de", Names: []string{"0f3a-old"}, Reason: "no work of this hub has taken them over", Since: ago(time.Hour), OnSpoke: true}
	switch r.GetClusterName() {
	case "eu-1":
	case "eu-2":
		return &adminv1.ListHeldDeletesResponse{Batches: []*adminv1.HeldBatch{moved}}, nil
	default:
		return &adminv1.ListHeldDeletesResponse{}, nil
	}
	return &adminv1.ListHeldDeletesResponse{Batches: []*adminv1.HeldBatch{
		{ClusterName: "eu-1", BatchId: "b7f3", Names: []string{"hello", "web"}, Reason: "the hub was restored", Since: ago(10 * time.Minute)},
	}}, nil
}

func (h *fakeHub) ReleaseHeldDeletes(context.Context, *adminv1.ReleaseHeldDeletesRequest) (*adminv1.ReleaseHeldDeletesResponse, error) {
	return &adminv1.ReleaseHeldDeletesResponse{}, nil
}
