// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// peerPatience is how long another replica may take (PROTOCOL c1).
	peerPatience = 2 * time.Second
	// askedByPeer is the metadata key of calls that a replica passed on; they are
	// answered with what that replica knows itself.
	askedByPeer = "fairlead-asked-by-replica"
)

// Peers reaches the admin listeners of other replicas. Safe for concurrent use.
type Peers interface {
	// Dial returns a connection to the replica's admin listener, verified as one
	// of this hub, and kept by Peers. It does not wait for the connection.
	Dial(replica string) (grpc.ClientConnInterface, error)
}

// elsewhere names the replica, if it is another one, that has the cluster's
// session and is to be asked; a call that was passed on is not passed on again.
func (s *Service) elsewhere(ctx context.Context, cluster string) (replica string, ok bool) {
	if s.Peers == nil || len(metadata.ValueFromIncomingContext(ctx, askedByPeer)) > 0 {
		return "", false
	}
	sessions, err := s.sessionsOf(ctx, cluster)
	if err != nil || len(sessions) == 0 || sessions[0].GetLive() {
		return "", false
	}
	return sessions[0].GetHubReplica(), true
}

// pass gives a call on to another replica with the caller's own token, which is
// judged there once more. What the other replica refuses is refused in its
// words; one that does not answer in time is named.
func pass[T any](ctx context.Context, s *Service, replica string, call func(context.Context, grpc.ClientConnInterface) (T, error)) (answer T, err error) {
	conn, err := s.Peers.Dial(replica)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, peerPatience)
		defer cancel()
		headers := metadata.Pairs(askedByPeer, "yes")
		if who := authz.CallerOf(ctx); who != nil {
			headers.Set("authorization", "Bearer "+who.Token)
		}
		answer, err = call(metadata.NewOutgoingContext(ctx, headers), conn)
	}
	why, st := rpcerr.ReasonOf(err), status.Convert(err)
	switch {
	case err == nil:
		return answer, nil
	case why == "": // it was not the replica that said so
		return answer, fail(codes.Unavailable, reason.ReplicaSilent, "hub replica %q has the session and does not answer: %s", replica, st.Message())
	}
	return answer, rpcerr.New(st.Code(), why, "%s", st.Message()).RetryIn(rpcerr.RetryAfterOf(err))
}

// heldElsewhere lists what the agent holds whose session another replica has.
func (s *Service) heldElsewhere(ctx context.Context, replica string, r *adminv1.ListHeldDeletesRequest) (*adminv1.ListHeldDeletesResponse, error) {
	return pass(ctx, s, replica, func(ctx context.Context, conn grpc.ClientConnInterface) (*adminv1.ListHeldDeletesResponse, error) {
		return adminv1.NewWorkAdminServiceClient(conn).ListHeldDeletes(ctx, r)
	})
}

// releaseElsewhere releases a batch there.
func (s *Service) releaseElsewhere(ctx context.Context, replica string, r *adminv1.ReleaseHeldDeletesRequest) (*adminv1.ReleaseHeldDeletesResponse, error) {
	return pass(ctx, s, replica, func(ctx context.Context, conn grpc.ClientConnInterface) (*adminv1.ReleaseHeldDeletesResponse, error) {
		return adminv1.NewWorkAdminServiceClient(conn).ReleaseHeldDeletes(ctx, r)
	})
}

// explainElsewhere asks for the whole explanation there.
func (s *Service) explainElsewhere(ctx context.Context, replica string, r *adminv1.ExplainDeliveryRequest) (*adminv1.ExplainDeliveryResponse, error) {
	return pass(ctx, s, replica, func(ctx context.Context, conn grpc.ClientConnInterface) (*adminv1.ExplainDeliveryResponse, error) {
		return adminv1.NewWorkAdminServiceClient(conn).ExplainDelivery(ctx, r)
	})
}

// addElsewhere fills in what only the replicas know that have the sessions of a
// page, each asked once. One that does not answer leaves what its Leases say.
func (s *Service) addElsewhere(ctx context.Context, r *adminv1.ListSessionsRequest, page []*adminv1.SessionInfo) {
	if s.Peers == nil || len(metadata.ValueFromIncomingContext(ctx, askedByPeer)) > 0 {
		return
	}
	place := map[string]int{}
	replicas := map[string]bool{}
	for i, session := range page {
		if !session.GetLive() {
			place[session.GetSessionId()] = i
			replicas[session.GetHubReplica()] = true
		}
	}
	for replica := range replicas {
		answer, err := pass(ctx, s, replica, func(ctx context.Context, conn grpc.ClientConnInterface) (*adminv1.ListSessionsResponse, error) {
			return adminv1.NewClusterAdminServiceClient(conn).ListSessions(ctx, r)
		})
		if err != nil {
			s.Logger.InfoContext(ctx, "another replica did not tell about its sessions", "replica", replica, "error", err)
			continue
		}
		for _, session := range answer.GetSessions() {
			if i, ok := place[session.GetSessionId()]; ok && session.GetLive() {
				page[i] = session
			}
		}
	}
}
