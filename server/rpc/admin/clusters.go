// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// revokeWait bounds how long RevokeCluster waits for the replicas.
const revokeWait = 5 * time.Second

// ListClusters lists the ManagedClusters that the caller may list.
func (s clusterService) ListClusters(ctx context.Context, r *adminv1.ListClustersRequest) (*adminv1.ListClustersResponse, error) {
	who, err := s.callers.of(ctx)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	list, err := who.Dynamic.Resource(managedClusters).List(ctx, metav1.ListOptions{
		LabelSelector: r.GetLabelSelector(), Limit: int64(size), Continue: r.GetPageToken(),
	})
	if err != nil {
		return nil, kubernetesError(err, "listing clusters")
	}
	facts, err := s.facts(ctx)
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListClustersResponse{NextPageToken: list.GetContinue()}
	for i := range list.Items {
		info, err := s.clusterInfo(&list.Items[i], facts)
		if err != nil {
			return nil, err
		}
		out.Clusters = append(out.Clusters, info)
	}
	return out, nil
}

// GetCluster shows one cluster, with its ManagedCluster as the apiserver has it.
func (s clusterService) GetCluster(ctx context.Context, r *adminv1.GetClusterRequest) (*adminv1.GetClusterResponse, error) {
	who, err := s.asked(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	cluster, err := who.Dynamic.Resource(managedClusters).Get(ctx, r.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, kubernetesError(err, "reading cluster %q", r.GetName())
	}
	facts, err := s.facts(ctx)
	if err != nil {
		return nil, err
	}
	info, err := s.clusterInfo(cluster, facts)
	if err != nil {
		return nil, err
	}
	raw, err := cluster.MarshalJSON()
	if err != nil {
		return nil, fail(codes.Internal, reason.Internal, "encoding cluster %q: %v", r.GetName(), err)
	}
	return &adminv1.GetClusterResponse{Cluster: info, ManagedClusterJson: string(raw)}, nil
}

// WatchClusters follows ManagedClusters with the caller's own token.
func (s clusterService) WatchClusters(r *adminv1.WatchClustersRequest, stream grpc.ServerStreamingServer[adminv1.WatchClustersResponse]) error {
	who, err := s.callers.of(stream.Context())
	if err != nil {
		return err
	}
	latest := s.latestFacts()
	return s.follow(stream.Context(), follower{
		resource: who.Dynamic.Resource(managedClusters),
		selector: metav1.ListOptions{LabelSelector: r.GetLabelSelector()},
		upsert: func(u *unstructured.Unstructured) error {
			facts, err := latest(stream.Context())
			if err != nil {
				return err
			}
			info, err := s.clusterInfo(u, facts)
			if err != nil {
				return err
			}
			return stream.Send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Upsert{Upsert: info}})
		},
		removed: func(u *unstructured.Unstructured) error {
			return stream.Send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Removed{Removed: u.GetName()}})
		},
		synced: func(token string) error {
			mark := &adminv1.Bookmark{ResumeToken: token, InitialSyncComplete: true}
			return stream.Send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Bookmark{Bookmark: mark}})
		},
		reset: func(why string) error {
			return stream.Send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Reset_{Reset_: &adminv1.Reset{Reason: why}}})
		},
	})
}

// RevokeCluster sets hubAcceptsClient=false with the caller's own token and
// returns when no replica holds a session of the cluster, or after 5 s with the
// names of those that still do.
func (s clusterService) RevokeCluster(ctx context.Context, r *adminv1.RevokeClusterRequest) (*adminv1.RevokeClusterResponse, error) {
	if _, err := s.asked(ctx, r.GetName()); err != nil {
		return nil, err
	}
	who, name, err := s.authorize(ctx, acceptAccess(r.GetName()))
	if err != nil {
		return nil, err
	}
	before, err := s.sessionsOf(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	accepted := "unknown" // whoever revokes need not be able to read
	if cluster, err := who.Dynamic.Resource(managedClusters).Get(ctx, r.GetName(), metav1.GetOptions{}); err == nil {
		accepted = acceptance(cluster)
	}
	patch := map[string]any{"spec": map[string]any{"hubAcceptsClient": false}}
	if r.GetUid() != "" {
		patch["metadata"] = map[string]any{"uid": r.GetUid()}
	}
	raw, err := json.Marshal(patch)
	if err != nil {
		return nil, fail(codes.Internal, reason.Internal, "encoding the patch: %v", err)
	}
	denied, err := who.Dynamic.Resource(managedClusters).Patch(ctx, r.GetName(), types.MergePatchType, raw, metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsInvalid(err) && r.GetUid() != "": // the UID cannot be changed, so it is another's
		return nil, rpcerr.New(codes.FailedPrecondition, reason.UIDMismatch, "cluster %q is not the one with UID %q any more: look at it again with «fairlead get clusters %s»", r.GetName(), r.GetUid(), r.GetName()).Because(err)
	case err != nil:
		return nil, kubernetesError(err, "denying cluster %q", r.GetName())
	}
	silent, err := s.waitForNoSession(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	d := deed{action: "RevokeCluster", actor: name, cluster: r.GetName(), before: accepted, after: acceptance(denied)}
	s.audit(ctx, d, "reason", r.GetReason(), "sessions", len(before), "silent", silent)
	s.tellf(ctx, d, "ClusterRevoked", "%s took the acceptance back: %s", name, r.GetReason())
	return &adminv1.RevokeClusterResponse{SessionsClosed: uint32(min(max(0, len(before)-len(silent)), math.MaxInt32)), ReplicasSilent: silent}, nil
}

func acceptance(cluster *unstructured.Unstructured) string {
	accepted, _, _ := unstructured.NestedBool(cluster.Object, "spec", "hubAcceptsClient")
	return fmt.Sprintf("hubAcceptsClient=%t", accepted)
}

func (s *Service) waitForNoSession(ctx context.Context, cluster string) (silent []string, err error) {
	deadline := time.NewTimer(revokeWait)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		left, err := s.sessionsOf(ctx, cluster)
		if err != nil || len(left) == 0 {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fail(codes.DeadlineExceeded, reason.HubOverloaded, "cluster %q is denied, but the call ended before its sessions were seen to end", cluster)
		case <-deadline.C:
			for _, session := range left {
				silent = append(silent, session.GetHubReplica())
			}
			return silent, nil
		case <-ticker.C:
		}
	}
}

// facts are what the hub knows of clusters besides their ManagedCluster.
type facts struct {
	sessions    map[string]*adminv1.SessionInfo
	enrollments map[string]*adminv1.Enrollment
}

func (s *Service) facts(ctx context.Context) (facts, error) {
	sessions, err := s.Sessions.List(ctx)
	if err != nil {
		return facts{}, err
	}
	var enrollments []*adminv1.Enrollment
	if !s.Clusterless {
		if enrollments, err = s.enrollments(ctx, ""); err != nil {
			return facts{}, err
		}
	}
	out := facts{sessions: make(map[string]*adminv1.SessionInfo, len(sessions)), enrollments: map[string]*adminv1.Enrollment{}}
	for _, session := range sessions {
		out.sessions[session.GetClusterName()] = session
	}
	for _, e := range enrollments { // of several keys of one cluster the newest certificate counts
		if end := e.GetCertificateExpires(); end != nil && end.GetSeconds() > out.enrollments[e.GetClusterName()].GetCertificateExpires().GetSeconds() {
			out.enrollments[e.GetClusterName()] = e
		}
	}
	return out, nil
}

// latestFacts gives facts that are at most a second old, so that a snapshot of
// many clusters does not list all sessions for each of them. It is for one
// goroutine.
func (s *Service) latestFacts() func(context.Context) (facts, error) {
	var known facts
	var at time.Time
	return func(ctx context.Context) (facts, error) {
		if now := s.Now(); now.Sub(at) >= time.Second {
			fresh, err := s.facts(ctx)
			if err != nil {
				return facts{}, err
			}
			known, at = fresh, now
		}
		return known, nil
	}
}

func (s *Service) clusterInfo(u *unstructured.Unstructured, known facts) (*adminv1.ClusterInfo, error) {
	var cluster clusterv1.ManagedCluster
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &cluster); err != nil {
		return nil, fail(codes.Internal, reason.Internal, "decoding cluster %q: %v", u.GetName(), err)
	}
	info := &adminv1.ClusterInfo{
		Name: cluster.Name, Uid: string(cluster.UID), HubAccepted: cluster.Spec.HubAcceptsClient,
		Joined:            meta.IsStatusConditionTrue(cluster.Status.Conditions, clusterv1.ManagedClusterConditionJoined),
		KubernetesVersion: cluster.Status.Version.Kubernetes, Created: timestamppb.New(cluster.CreationTimestamp.Time),
		CertificateExpires: known.enrollments[cluster.Name].GetCertificateExpires(),
		CertificateSerial:  known.enrollments[cluster.Name].GetCertificateSerial(),
		LastSeen:           known.sessions[cluster.Name].GetLastReceived(),
	}
	s.countWorks(info, known.sessions[cluster.Name])
	if available := meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable); available != nil {
		info.Available, info.Message = string(available.Status), available.Message
	}
	if !cluster.DeletionTimestamp.IsZero() {
		info.Deleted, info.Message = timestamppb.New(cluster.DeletionTimestamp.Time), ""
		if c := meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionDeleting); c != nil {
			info.Message = c.Message
		}
		return info, nil
	}
	for _, warning := range []string{identity.ConditionDetached, "DuplicateAgent", "CertificateCloned", "AgentFlapping", "DeletesHeld", "ReportTruncated"} {
		if c := meta.FindStatusCondition(cluster.Status.Conditions, warning); c != nil && c.Status == metav1.ConditionTrue {
			info.Message = warning + ": " + c.Message
			break
		}
	}
	return info, nil
}

func (s *Service) countWorks(info *adminv1.ClusterInfo, session *adminv1.SessionInfo) {
	if s.Works == nil {
		return
	}
	info.Works = uint32(min(max(0, s.Works(info.GetName())), math.MaxInt32))
	if session.GetLive() {
		info.WorksInSync = info.GetWorks() - min(info.GetWorks(), session.GetDirtyObjects())
	}
}
