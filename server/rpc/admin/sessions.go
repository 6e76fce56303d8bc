// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ListSessions lists the sessions of all replicas.
func (s clusterService) ListSessions(ctx context.Context, r *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	if _, _, err := s.authorize(ctx, virtual("list", "sessions", "")); err != nil {
		return nil, err
	}
	sessions, err := s.sessionsOf(ctx, r.GetClusterName())
	if err != nil {
		return nil, err
	}
	return &adminv1.ListSessionsResponse{Sessions: sessions}, nil
}

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

// WatchSessions follows sessions; see ClusterAdminService.
func (s clusterService) WatchSessions(r *adminv1.WatchSessionsRequest, stream grpc.ServerStreamingServer[adminv1.WatchSessionsResponse]) error {
	if _, _, err := s.authorize(stream.Context(), virtual("watch", "sessions", "")); err != nil {
		return err
	}
	return poll(stream.Context(), pollFuncs[*adminv1.SessionInfo]{
		list: func(ctx context.Context) ([]*adminv1.SessionInfo, error) {
			return s.sessionsOf(ctx, r.GetClusterName())
		},
		key: (*adminv1.SessionInfo).GetSessionId,
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

// KickSession ends a session on whichever replica holds it.
func (s clusterService) KickSession(ctx context.Context, r *adminv1.KickSessionRequest) (*adminv1.KickSessionResponse, error) {
	_, name, err := s.authorize(ctx, virtual("delete", "sessions", r.GetSessionId()))
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
		if r.GetSessionId() == "" && r.GetClusterName() == "" {
			break
		}
		if err := s.Sessions.Kick(ctx, session.GetClusterName(), session.GetSessionId()); err != nil {
			return nil, err
		}
		s.audit(ctx, "KickSession", name, "cluster", session.GetClusterName(), "session", session.GetSessionId(), "replica", session.GetHubReplica())
		return &adminv1.KickSessionResponse{SessionId: session.GetSessionId(), HubReplica: session.GetHubReplica()}, nil
	}
	return nil, fail(codes.NotFound, reason.NotFound, "no session %q of cluster %q: list them with «fairlead get sessions»", r.GetSessionId(), r.GetClusterName())
}
