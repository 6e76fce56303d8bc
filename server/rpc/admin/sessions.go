// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ListSessions lists the sessions of all replicas, with what each knows of its
// own.
func (s clusterService) ListSessions(ctx context.Context, r *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	if _, _, err := s.authorize(ctx, virtual("list", "sessions", "")); err != nil {
		return nil, err
	}
	sessions, err := s.sessionsOf(ctx, r.GetClusterName())
	if err != nil {
		return nil, err
	}
	page, next, err := paginate(sessions, r.GetPageSize(), r.GetPageToken(), sessionKey)
	if err != nil {
		return nil, err
	}
	s.addElsewhere(ctx, r, page)
	return &adminv1.ListSessionsResponse{Sessions: page, NextPageToken: next}, nil
}

// sessionKey orders sessions by cluster.
func sessionKey(i *adminv1.SessionInfo) string { return i.GetClusterName() + "/" + i.GetSessionId() }

// sessionsOf lists the sessions of one cluster, or of all when it is empty.
func (s *Service) sessionsOf(ctx context.Context, cluster string) ([]*adminv1.SessionInfo, error) {
	all, err := s.Sessions.List(ctx)
	if err != nil {
		return nil, err
	}
	if cluster == "" {
		return all, nil
	}
	var out []*adminv1.SessionInfo
	for _, session := range all {
		if session.GetClusterName() == cluster {
			out = append(out, session)
		}
	}
	return out, nil
}

// WatchSessions follows sessions; see ClusterAdminService. Of those that other
// replicas have it tells what their Leases say.
func (s clusterService) WatchSessions(r *adminv1.WatchSessionsRequest, stream grpc.ServerStreamingServer[adminv1.WatchSessionsResponse]) error {
	return poll(stream.Context(), s.Service, virtual("watch", "sessions", ""), poller[*adminv1.SessionInfo]{
		list: func(ctx context.Context) ([]*adminv1.SessionInfo, error) {
			return s.sessionsOf(ctx, r.GetClusterName())
		},
		key:  (*adminv1.SessionInfo).GetSessionId,
		view: calm,
		upsert: func(i *adminv1.SessionInfo) error {
			return stream.Send(&adminv1.WatchSessionsResponse{Event: &adminv1.WatchSessionsResponse_Upsert{Upsert: i}})
		},
		removed: func(id string) error {
			return stream.Send(&adminv1.WatchSessionsResponse{Event: &adminv1.WatchSessionsResponse_Removed{Removed: id}})
		},
		synced: func() error {
			return stream.Send(&adminv1.WatchSessionsResponse{Event: &adminv1.WatchSessionsResponse_Bookmark{Bookmark: &adminv1.Bookmark{InitialSyncComplete: true}}})
		},
	})
}

// calm is a session with times to the minute: with thousands of agents each
// heartbeat would else be a message to each watcher.
func calm(i *adminv1.SessionInfo) proto.Message {
	view := proto.CloneOf(i)
	if view.GetLastReceived() != nil {
		view.LastReceived = &timestamppb.Timestamp{Seconds: view.GetLastReceived().GetSeconds() / 60 * 60}
	}
	if view.GetSendStalled() != nil {
		view.SendStalled = &durationpb.Duration{Seconds: view.GetSendStalled().GetSeconds() / 10 * 10}
	}
	return view
}

// KickSession ends a session on whichever replica holds it. Rights go by the
// cluster's name; one who names a session only needs them for all clusters.
func (s clusterService) KickSession(ctx context.Context, r *adminv1.KickSessionRequest) (*adminv1.KickSessionResponse, error) {
	if r.GetClusterName() == "" && r.GetSessionId() == "" {
		return nil, fail(codes.InvalidArgument, reason.InvalidArgument, "name the cluster, or the session by its id: «fairlead get sessions» lists them")
	}
	_, name, err := s.authorize(ctx, virtual("delete", "sessions", r.GetClusterName()))
	if err != nil {
		return nil, err
	}
	sessions, err := s.sessionsOf(ctx, r.GetClusterName())
	if err != nil {
		return nil, err
	}
	for _, session := range sessions {
		if r.GetSessionId() != "" && session.GetSessionId() != r.GetSessionId() {
			continue
		}
		if err := s.Sessions.Kick(ctx, session.GetClusterName(), session.GetSessionId()); err != nil {
			return nil, err
		}
		d := deed{action: "KickSession", actor: name, cluster: session.GetClusterName(), before: "live", after: "ended"}
		s.audit(ctx, d, "session", session.GetSessionId(), "replica", session.GetHubReplica())
		s.tellf(ctx, d, "SessionKicked", "%s ended session %s at %s.", name, session.GetSessionId(), session.GetHubReplica())
		return &adminv1.KickSessionResponse{SessionId: session.GetSessionId(), HubReplica: session.GetHubReplica()}, nil
	}
	return nil, fail(codes.NotFound, reason.NotFound, "no session%s%s: list them with «fairlead get sessions»", quoted(" ", r.GetSessionId()), quoted(" of cluster ", r.GetClusterName()))
}
