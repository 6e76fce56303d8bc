// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// personToken is who the tests are.
const personToken = "token-of-a-person"

// now is the time at which the tests play.
func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now().Add(-d)) }

// fakeHub is an admin listener with answers of its own, over real TLS.
type fakeHub struct {
	adminv1.UnimplementedEnrollmentAdminServiceServer
	adminv1.UnimplementedClusterAdminServiceServer
	adminv1.UnimplementedWorkAdminServiceServer
	adminv1.UnimplementedPlacementAdminServiceServer

	address string
	ca      []byte

	mu     sync.Mutex
	asked  []string // requests, each as one line
	tokens []string // bearer tokens that came
	broken int      // watches that are still to be cut off after their snapshot
}

func startFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	ca, err := pki.NewCA("fake hub", time.Now(), time.Hour)
	require.NoError(t, err)
	serving, err := ca.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	certificate, _, err := ca.Encode()
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &fakeHub{address: listener.Addr().String(), ca: certificate}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*serving}, MinVersion: tls.VersionTLS13})),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := h.admit(ctx, info.FullMethod, request); err != nil {
				return nil, err
			}
			return handler(ctx, request)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := h.admit(stream.Context(), info.FullMethod, nil); err != nil {
				return err
			}
			return handler(srv, stream)
		}))
	adminv1.RegisterEnrollmentAdminServiceServer(server, h)
	adminv1.RegisterClusterAdminServiceServer(server, h)
	adminv1.RegisterWorkAdminServiceServer(server, h)
	adminv1.RegisterPlacementAdminServiceServer(server, h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })
	return h
}

// admit notes who asked for what; a token that is not the person's is refused.
func (h *fakeHub) admit(ctx context.Context, method string, request any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	header := strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ",")
	h.tokens = append(h.tokens, strings.TrimPrefix(header, "Bearer "))
	line := method[strings.LastIndex(method, "/")+1:]
	if message, ok := request.(proto.Message); ok {
		line += " " + oneLineJSON(message)
	}
	h.asked = append(h.asked, line)
	if header == "Bearer expired" {
		return refuse(codes.Unauthenticated, reason.Unauthenticated, "asking who you are: Unauthorized")
	}
	return nil
}

// oneLineJSON is protojson without its deliberate random blanks.
func oneLineJSON(message proto.Message) string {
	raw, err := protojson.Marshal(message)
	if err != nil {
		return err.Error()
	}
	var object any
	if err := json.Unmarshal(raw, &object); err != nil {
		return err.Error()
	}
	raw, err = json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// take gives the requests since the last time.
func (h *fakeHub) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := h.asked
	h.asked = nil
	return asked
}

func refuse(code codes.Code, why, message string, args ...any) error {
	s, err := status.New(code, fmt.Sprintf(message, args...)).WithDetails(&errdetails.ErrorInfo{Reason: why, Domain: reason.Domain})
	if err != nil {
		return err
	}
	return s.Err()
}

// The clusters of the fake hub.
func clusterInfos() []*adminv1.ClusterInfo {
	return []*adminv1.ClusterInfo{
		{
			Name: "eu-1", Uid: "uid-1", HubAccepted: true, Joined: true, Available: "True", KubernetesVersion: "v1.37.2", Created: ago(49 * time.Hour),
			CertificateSerial: "1f", CertificateExpires: ago(-20 * time.Hour), LastSeen: ago(3 * time.Second), Works: 2, WorksInSync: 1, Message: "Managed cluster is available",
		},
		{Name: "us-1", Uid: "uid-2", HubAccepted: true, Joined: true, Available: "Unknown", KubernetesVersion: "v1.36.0", Created: ago(time.Hour), CertificateExpires: ago(time.Minute), Message: "the agent's session ended\nand did not come back"},
		{Name: "new", Uid: "uid-3", Created: ago(20 * time.Second)},
	}
}

func (h *fakeHub) ListClusters(_ context.Context, r *adminv1.ListClustersRequest) (*adminv1.ListClustersResponse, error) {
	all := clusterInfos()
	switch {
	case r.GetLabelSelector() == "none=such":
		return &adminv1.ListClustersResponse{}, nil
	case r.GetPageToken() == "":
		return &adminv1.ListClustersResponse{Clusters: all[:2], NextPageToken: "2"}, nil
	}
	return &adminv1.ListClustersResponse{Clusters: all[2:]}, nil
}

func (h *fakeHub) GetCluster(_ context.Context, r *adminv1.GetClusterRequest) (*adminv1.GetClusterResponse, error) {
	for _, c := range clusterInfos() {
		if c.GetName() == r.GetName() {
			return &adminv1.GetClusterResponse{Cluster: c, ManagedClusterJson: managedCluster(c)}, nil
		}
	}
	return nil, refuse(codes.NotFound, reason.NotFound, "reading cluster %q: not found", r.GetName())
}

// managedCluster is a cluster as the apiserver has it.
func managedCluster(c *adminv1.ClusterInfo) string {
	condition := func(kind, status, why, message string) map[string]any {
		return map[string]any{"type": kind, "status": status, "reason": why, "message": message, "lastTransitionTime": now().Add(-time.Hour).Format(time.RFC3339)}
	}
	conditions, taints := []any{}, []any{}
	if c.GetHubAccepted() {
		conditions = append(conditions, condition("HubAcceptedManagedCluster", "True", "HubClusterAdminAccepted", "Accepted by hub cluster admin"))
	}
	if c.GetAvailable() == "Unknown" {
		conditions = append(conditions, condition("ManagedClusterConditionAvailable", "Unknown", "ManagedClusterLeaseUpdateStopped", "Registration agent stopped updating its lease."))
		taints = append(taints, map[string]any{"key": "cluster.open-cluster-management.io/unreachable", "effect": "NoSelect", "timeAdded": now().Add(-time.Hour).Format(time.RFC3339)})
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"name": c.GetName()}, "spec": map[string]any{"taints": taints}, "status": map[string]any{"conditions": conditions},
	})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func (h *fakeHub) WatchClusters(_ *adminv1.WatchClustersRequest, stream grpc.ServerStreamingServer[adminv1.WatchClustersResponse]) error {
	send := func(event *adminv1.WatchClustersResponse) { _ = stream.Send(event) }
	for _, c := range clusterInfos()[:2] {
		send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Upsert{Upsert: c}})
	}
	send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Bookmark{Bookmark: &adminv1.Bookmark{InitialSyncComplete: true}}})
	changed := clusterInfos()[1]
	changed.Available, changed.Name = "True", "us-1-with-a-longer-name"
	send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Upsert{Upsert: changed}})
	send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Upsert{Upsert: clusterInfos()[2]}})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken > 0 {
		h.broken--
		return status.Error(codes.Unavailable, "the hub restarts")
	}
	send(&adminv1.WatchClustersResponse{Event: &adminv1.WatchClustersResponse_Removed{Removed: "eu-1"}})
	return nil
}

func (h *fakeHub) RevokeCluster(_ context.Context, r *adminv1.RevokeClusterRequest) (*adminv1.RevokeClusterResponse, error) {
	if r.GetName() == "us-1" {
		return &adminv1.RevokeClusterResponse{ReplicasSilent: []string{"hub-2"}}, nil
	}
	return &adminv1.RevokeClusterResponse{SessionsClosed: 1}, nil
}

func (h *fakeHub) DeleteCluster(_ context.Context, r *adminv1.DeleteClusterRequest) (*adminv1.DeleteClusterResponse, error) {
	out := &adminv1.DeleteClusterResponse{}
	if r.GetForce() {
		out.LeftBehind = []*adminv1.WorkLeft{
			{Ref: &adminv1.WorkRef{ClusterName: r.GetName(), Name: "web"}, Resources: []string{"apps/v1, Deployment shop/web"}},
			{Ref: &adminv1.WorkRef{ClusterName: r.GetName(), Name: "never-applied"}},
		}
	}
	return out, nil
}

func (h *fakeHub) ListSessions(_ context.Context, r *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	all := []*adminv1.SessionInfo{
		{
			ClusterName: "eu-1", SessionId: "s-1", SessionEpoch: 3, HubReplica: "hub-1", RemoteAddress: "10.0.0.7:4711", Started: ago(2 * time.Hour), DirtyObjects: 4, UnackedBytes: 4096,
			AgentId: "agent-1", LastReceived: ago(5 * time.Second), CertificateExpires: ago(-20 * time.Hour), Live: true,
		},
		{ClusterName: "us-1", SessionId: "s-2", SessionEpoch: 1, HubReplica: "hub-2", RemoteAddress: "10.0.0.8:4711", Started: ago(time.Hour)},
	}
	return &adminv1.ListSessionsResponse{Sessions: slices.DeleteFunc(all, func(s *adminv1.SessionInfo) bool {
		return r.GetClusterName() != "" && r.GetClusterName() != s.GetClusterName()
	})}, nil
}

func (h *fakeHub) KickSession(_ context.Context, r *adminv1.KickSessionRequest) (*adminv1.KickSessionResponse, error) {
	return &adminv1.KickSessionResponse{SessionId: "s-1", HubReplica: "hub-1"}, nil
}

func enrollmentInfos() []*adminv1.Enrollment {
	return []*adminv1.Enrollment{
		{EnrollmentId: "eu-1-abcd-efgh-ijkl", ClusterName: "eu-1", State: "Active", PairingCode: "ABCD-EFGH-IJKL", SourceAddress: "10.0.0.7", Created: ago(49 * time.Hour), CertificateExpires: ago(-20 * time.Hour), AcceptedBy: "alice", AgentId: "agent-1"},
		{EnrollmentId: "twin-aaaa-bbbb-cccc", ClusterName: "twin", State: "Revoked", PairingCode: "AAAA-BBBB-CCCC", SourceAddress: "10.0.0.8", Created: ago(49 * time.Hour), CertificateSerial: "5d1c0a7e", Reason: reason.CertificateClone, AcceptedBy: "alice", AgentId: "agent-2", Message: "serial 1f00 was shown, which 5d1c0a7e has replaced"},
		{EnrollmentId: "off-dddd-eeee-ffff", ClusterName: "off", State: "Expired", PairingCode: "DDDD-EEEE-FFFF", SourceAddress: "10.0.0.6", Created: ago(49 * time.Hour), CertificateSerial: "77", CertificateExpires: ago(time.Hour), Reason: v1alpha1.ReasonCertificateExpired, AcceptedBy: "alice", Message: "its certificate expired"},
		{EnrollmentId: "new-mnop-qrst-uvwx", ClusterName: "new", State: "Pending", PairingCode: "MNOP-QRST-UVWX", SourceAddress: "10.0.0.9", Created: ago(20 * time.Second), Message: "waits for a person"},
	}
}

func (h *fakeHub) ListEnrollments(_ context.Context, r *adminv1.ListEnrollmentsRequest) (*adminv1.ListEnrollmentsResponse, error) {
	all := slices.DeleteFunc(enrollmentInfos(), func(e *adminv1.Enrollment) bool { return r.GetState() != "" && r.GetState() != e.GetState() })
	return &adminv1.ListEnrollmentsResponse{Enrollments: all}, nil
}

func (h *fakeHub) AcceptEnrollment(_ context.Context, r *adminv1.AcceptEnrollmentRequest) (*adminv1.AcceptEnrollmentResponse, error) {
	if r.GetCertificateSerial() != "" {
		return &adminv1.AcceptEnrollmentResponse{Enrollment: enrollmentInfos()[0]}, nil
	}
	if r.GetPairingCode() != "MNOP-QRST-UVWX" {
		return nil, refuse(codes.FailedPrecondition, reason.PairingCodeMismatch, "cluster %q has no enrollment with this pairing code", r.GetClusterName())
	}
	return &adminv1.AcceptEnrollmentResponse{Enrollment: enrollmentInfos()[3]}, nil
}

func (h *fakeHub) DenyEnrollment(context.Context, *adminv1.DenyEnrollmentRequest) (*adminv1.DenyEnrollmentResponse, error) {
	return &adminv1.DenyEnrollmentResponse{}, nil
}

func (h *fakeHub) CreateJoinToken(_ context.Context, r *adminv1.CreateJoinTokenRequest) (*adminv1.CreateJoinTokenResponse, error) {
	if r.GetAutoAccept() {
		return nil, refuse(codes.PermissionDenied, reason.PermissionDenied, "you may not create jointokens/autoaccept.fairlead.dev")
	}
	return &adminv1.CreateJoinTokenResponse{TokenId: "t1", Expires: ago(-time.Hour), JoinString: "flj1_eyJ…"}, nil
}

func (h *fakeHub) ListJoinTokens(context.Context, *adminv1.ListJoinTokensRequest) (*adminv1.ListJoinTokensResponse, error) {
	return &adminv1.ListJoinTokensResponse{Tokens: []*adminv1.JoinToken{
		{TokenId: "t1", ClusterName: "eu-1", Expires: ago(-time.Hour), UsesLeft: 1, CreatedBy: "alice"},
		{TokenId: "t2", NamePattern: "edge-*", Expires: ago(time.Minute), AutoAccept: true, ReEnroll: true, SourceCidrs: []string{"10.0.0.0/8"}, CreatedBy: "bob"},
	}}, nil
}

func (h *fakeHub) RevokeJoinToken(_ context.Context, r *adminv1.RevokeJoinTokenRequest) (*adminv1.RevokeJoinTokenResponse, error) {
	return &adminv1.RevokeJoinTokenResponse{}, nil
}
