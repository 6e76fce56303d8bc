// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/deploy"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "admin", CRDs: deploy.HubCRDs()}) }

const limit = 20_000

// rooms stands in for the rooms below the face, which have tests of their own.
type rooms struct {
	tokens      []admin.Token
	enrollments []*adminv1.Enrollment
	sessions    []*adminv1.SessionInfo
	held        []*adminv1.HeldBatch
	accepted    []string
	released    []string
	kicked      []string
	state       admin.DeliveryState
	known       bool
}

func (r *rooms) Create(_ context.Context, p admin.TokenPolicy, by string) (admin.Token, error) {
	token := admin.Token{ID: fmt.Sprintf("t%d", len(r.tokens)), Presented: "secret", JoinString: "flj1_x", Policy: p, Expires: time.Unix(2e9, 0), CreatedBy: by}
	r.tokens = append(r.tokens, token)
	return token, nil
}
func (r *rooms) List(context.Context) ([]admin.Token, error) { return r.tokens, nil }
func (r *rooms) Revoke(context.Context, string) error        { return nil }

type enrollments struct{ *rooms }

func (r enrollments) List(context.Context) ([]*adminv1.Enrollment, error) { return r.enrollments, nil }
func (r enrollments) Accept(_ context.Context, _ *rest.Config, id, code, by string) error {
	r.accepted = append(r.accepted, id+" "+code+" "+by)
	return nil
}
func (r enrollments) Deny(context.Context, *rest.Config, string, string, string) error { return nil }

type sessions struct{ *rooms }

func (r sessions) List(context.Context) ([]*adminv1.SessionInfo, error) { return r.sessions, nil }
func (r sessions) Kick(_ context.Context, cluster, id string) error {
	r.kicked = append(r.kicked, cluster+" "+id)
	return nil
}
func (r sessions) Held(string) ([]*adminv1.HeldBatch, bool) { return r.held, r.known }
func (r sessions) Release(_ context.Context, cluster, batch string) error {
	r.released = append(r.released, cluster+" "+batch)
	return nil
}

func (r *rooms) State(string, wire.Key) (admin.DeliveryState, bool) { return r.state, r.known }
func (r *rooms) Digest(string, wire.Key) (wire.Digest, bool)        { return wire.Digest{1}, true }

// face is the services behind a server that does what the interceptors do with
// a person's token.
type face struct {
	*rooms
	plane       *env.Plane
	kube        kubernetes.Interface
	clusters    clusterclient.Interface
	Enrollments adminv1.EnrollmentAdminServiceClient
	Clusters    adminv1.ClusterAdminServiceClient
	Works       adminv1.WorkAdminServiceClient
}

func newFace(t *testing.T) *face {
	t.Helper()
	plane := env.Shared(t)
	r := &rooms{}
	service := admin.New(admin.Config{
		REST: plane.RESTConfig(), ManifestLimit: limit, Tokens: r, Enrollments: enrollments{r}, Sessions: sessions{r}, Deliveries: r,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	identify := func(ctx context.Context) context.Context {
		token, _ := strings.CutPrefix(strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ""), "Bearer ")
		return authz.WithCaller(ctx, &authz.Caller{Type: authz.Person, Token: token})
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(identify(ctx), request)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, identified{stream, identify(stream.Context())})
		}))
	service.Register(server)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	kube, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	clusters, err := clusterclient.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	return &face{rooms: r, plane: plane, kube: kube, clusters: clusters,
		Enrollments: adminv1.NewEnrollmentAdminServiceClient(conn), Clusters: adminv1.NewClusterAdminServiceClient(conn), Works: adminv1.NewWorkAdminServiceClient(conn)}
}

type identified struct {
	grpc.ServerStream
	ctx context.Context
}

func (s identified) Context() context.Context { return s.ctx }

// as is a context with the token of a person who has these rules in a namespace
// (empty: in the whole cluster).
func (f *face) as(t *testing.T, name, namespace string, rules ...rbacv1.PolicyRule) context.Context {
	t.Helper()
	ctx := t.Context()
	home := "people"
	_, err := f.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: home}}, metav1.CreateOptions{})
	if err != nil {
		require.ErrorContains(t, err, "already exists")
	}
	_, err = f.kube.CoreV1().ServiceAccounts(home).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	meta := metav1.ObjectMeta{Name: "test:" + name}
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: home}}
	_, err = f.kube.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}
	if namespace == "" {
		_, err = f.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}, metav1.CreateOptions{})
	} else {
		_, err = f.kube.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}, metav1.CreateOptions{})
	}
	require.NoError(t, err)
	config, err := f.plane.TokenConfig(ctx, home, name)
	require.NoError(t, err)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+config.BearerToken)
}

// cluster makes a ManagedCluster with its namespace, as acceptance does.
func (f *face) cluster(t *testing.T, name string) {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true}}
	_, err := f.clusters.ClusterV1().ManagedClusters().Create(t.Context(), cluster, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = f.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

var (
	works  = rbacv1.PolicyRule{APIGroups: []string{"work.open-cluster-management.io"}, Resources: []string{"manifestworks"}, Verbs: []string{"*"}}
	looks  = rbacv1.PolicyRule{APIGroups: []string{"cluster.open-cluster-management.io"}, Resources: []string{"managedclusters"}, Verbs: []string{"get", "list", "watch"}}
	tokens = rbacv1.PolicyRule{APIGroups: []string{"fairlead.dev"}, Resources: []string{"jointokens"}, Verbs: []string{"create", "list"}}
)

func manifest(name string, size int) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"},"data":{"k":%q}}`, name, strings.Repeat("x", size))
}

func workJSON(manifests ...string) string {
	return `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","spec":{"workload":{"manifests":[` + strings.Join(manifests, ",") + `]}}}`
}

func requireReason(t *testing.T, err error, code codes.Code, why string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, status.Code(err), "%v", err)
	require.Equal(t, why, rpcerr.ReasonOf(err), "%v", err)
}

// TestT76_rights_in_one_namespace gives a person works in one cluster's
// namespace and tries every call for another's.
func TestT76_rights_in_one_namespace(t *testing.T) {
	f := newFace(t)
	f.cluster(t, "t76-c1")
	f.cluster(t, "t76-c2")
	ctx := f.as(t, "t76", "t76-c1", works)
	answer, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: "t76-c1", Name: "w", WorkJson: workJSON(manifest("a", 1))})
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
		t.Run(name, func(t *testing.T) { requireReason(t, call("t76-c2"), codes.PermissionDenied, reason.PermissionDenied) })
	}
	events, err := f.plane.AuditEvents()
	require.NoError(t, err)
	written := false
	for _, e := range events {
		if e.ObjectRef != nil && e.ObjectRef.Namespace == "t76-c1" && e.Verb == "create" && e.ObjectRef.Resource == "manifestworks" {
			written = true
			require.Equal(t, "system:serviceaccount:people:t76", e.User.Username, "T70: the apiserver's audit log names the person")
		}
		if e.ObjectRef != nil && e.ObjectRef.Namespace == "t76-c2" && e.ObjectRef.Resource == "manifestworks" {
			require.GreaterOrEqual(t, e.ResponseStatus.Code, int32(400), "no call on t76-c2 succeeded")
		}
	}
	require.True(t, written)
}

func TestApplyWork(t *testing.T) {
	f := newFace(t)
	f.cluster(t, "apply")
	ctx := f.as(t, "apply", "", works, looks)
	cases := map[string]struct {
		reason  string
		request *adminv1.ApplyWorkRequest
		code    codes.Code
		why     string
	}{
		"unknown cluster": {"nobody has that name", &adminv1.ApplyWorkRequest{ClusterName: "nobody", Name: "w", WorkJson: workJSON(manifest("a", 1))}, codes.NotFound, reason.UnknownCluster},
		"no label":        {"names are RFC 1123 labels", &adminv1.ApplyWorkRequest{ClusterName: "Not_A.Label", Name: "w", WorkJson: workJSON(manifest("a", 1))}, codes.InvalidArgument, reason.InvalidName},
		"no name":         {"a work needs one", &adminv1.ApplyWorkRequest{ClusterName: "apply", WorkJson: workJSON(manifest("a", 1))}, codes.InvalidArgument, reason.InvalidName},
		"long name":       {"MW-06", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: strings.Repeat("a", 189), WorkJson: workJSON(manifest("a", 1))}, codes.InvalidArgument, reason.InvalidName},
		"no JSON":         {"cut text", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: "{"}, codes.InvalidArgument, reason.Undecodable},
		"other kind":      {"a ConfigMap is no work", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: manifest("a", 1)}, codes.InvalidArgument, reason.Undecodable},
		"no manifests":    {"WH-14", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON()}, codes.InvalidArgument, reason.InvalidArgument},
		"no kind":         {"cannot be applied", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(`{"apiVersion":"v1","metadata":{"name":"a"}}`)}, codes.InvalidArgument, reason.Undecodable},
		"no object":       {"WH-15", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(`"text"`)}, codes.InvalidArgument, reason.Undecodable},
		"generateName":    {"WH-15", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"a"}}`)}, codes.InvalidArgument, reason.Undecodable},
		"duplicate":       {"WH-15", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(manifest("a", 1), manifest("a", 2))}, codes.InvalidArgument, reason.InvalidArgument},
		"over the limit":  {"WH-16", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(manifest("a", limit))}, codes.InvalidArgument, reason.ObjectTooLarge},
		"far over":        {"not even decoded", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(manifest("a", 3<<20))}, codes.InvalidArgument, reason.ObjectTooLarge},
		"deeply nested":   {"T74", &adminv1.ApplyWorkRequest{ClusterName: "apply", Name: "w", WorkJson: workJSON(strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000))}, codes.InvalidArgument, reason.Undecodable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := f.Works.ApplyWork(ctx, tc.request)
			requireReason(t, err, tc.code, tc.why)
		})
	}
	list, err := f.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: "apply"})
	require.NoError(t, err)
	require.Empty(t, list.GetWorks(), "nothing half-made is left")
}

func TestApplyWorkIsIdempotent(t *testing.T) {
	f := newFace(t)
	f.cluster(t, "idem")
	ctx := f.as(t, "idem", "", works, looks)
	request := &adminv1.ApplyWorkRequest{ClusterName: "idem", Name: "w", WorkJson: workJSON(manifest("a", 1))}
	dry := &adminv1.ApplyWorkRequest{ClusterName: "idem", Name: "w", WorkJson: request.GetWorkJson(), DryRun: true}
	answer, err := f.Works.ApplyWork(ctx, dry)
	require.NoError(t, err)
	require.EqualValues(t, len(manifest("a", 1)), answer.GetSize())
	require.EqualValues(t, limit, answer.GetLimit())
	_, err = f.Works.GetWork(ctx, &adminv1.GetWorkRequest{ClusterName: "idem", Name: "w"})
	requireReason(t, err, codes.NotFound, reason.NotFound)

	first, err := f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	require.Len(t, first.GetDigest(), 64)
	again, err := f.Works.ApplyWork(ctx, request)
	require.NoError(t, err)
	require.Equal(t, first.GetResourceVersion(), again.GetResourceVersion(), "a repeat writes nothing")

	changed, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: "idem", Name: "w", WorkJson: workJSON(manifest("b", 1))})
	require.NoError(t, err)
	require.EqualValues(t, 2, changed.GetGeneration())
	require.Equal(t, first.GetUid(), changed.GetUid())
	_, err = f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: "idem", Name: "w", WorkJson: request.GetWorkJson(), ExpectedResourceVersion: first.GetResourceVersion()})
	requireReason(t, err, codes.Aborted, reason.Conflict)

	var stored struct {
		Metadata metav1.ObjectMeta
	}
	require.NoError(t, json.Unmarshal([]byte(changed.GetWorkJson()), &stored))
	require.Equal(t, []string{"cluster.open-cluster-management.io/manifest-work-cleanup"}, stored.Metadata.Finalizers, "MW-02, with the first write")
	_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: "idem", Name: "w", Uid: "another"})
	requireReason(t, err, codes.Aborted, reason.Conflict)
	_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: "idem", Name: "w", Uid: first.GetUid()})
	require.NoError(t, err)
}

func TestTokensNeedTheirPermission(t *testing.T) {
	f := newFace(t)
	ctx := f.as(t, "tokens", "", tokens)
	_, err := f.Enrollments.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{ClusterName: "c", AutoAccept: true})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
	answer, err := f.Enrollments.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{ClusterName: "c"})
	require.NoError(t, err)
	require.Equal(t, "flj1_x", answer.GetJoinString())
	list, err := f.Enrollments.ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{})
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:people:tokens", list.GetTokens()[0].GetCreatedBy())
	_, err = f.Enrollments.RevokeJoinToken(ctx, &adminv1.RevokeJoinTokenRequest{TokenId: "t0"})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)

	_, err = f.Enrollments.ListJoinTokens(t.Context(), &adminv1.ListJoinTokensRequest{})
	requireReason(t, err, codes.Unauthenticated, reason.Unauthenticated)
	_, err = f.Enrollments.ListJoinTokens(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer nonsense"), &adminv1.ListJoinTokensRequest{})
	requireReason(t, err, codes.Unauthenticated, reason.Unauthenticated)
}

func TestAcceptNeedsTheCodeOfTheKey(t *testing.T) {
	f := newFace(t)
	f.enrollments = []*adminv1.Enrollment{
		{EnrollmentId: "c-1", ClusterName: "c", PairingCode: "AAAA-BBBB-CCCC", State: "Pending"},
		{EnrollmentId: "c-2", ClusterName: "c", PairingCode: "DDDD-EEEE-FFFF", State: "Pending"},
	}
	rule := rbacv1.PolicyRule{APIGroups: []string{"register.open-cluster-management.io"}, Resources: []string{"managedclusters/accept"}, Verbs: []string{"update"}}
	ctx := f.as(t, "acceptor", "", rule)
	_, err := f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "c", PairingCode: "short"})
	requireReason(t, err, codes.InvalidArgument, reason.PairingCodeMismatch)
	_, err = f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "c", PairingCode: "GGGG-GGGG-GGGG"})
	requireReason(t, err, codes.FailedPrecondition, reason.PairingCodeMismatch)
	_, err = f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "other", PairingCode: "AAAA-BBBB-CCCC"})
	requireReason(t, err, codes.NotFound, reason.EnrollmentNotFound)
	require.Empty(t, f.accepted)
	answer, err := f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "c", PairingCode: "ddddeeeeffff"})
	require.NoError(t, err)
	require.Equal(t, "c-2", answer.GetEnrollment().GetEnrollmentId())
	require.Equal(t, []string{"c-2 DDDD-EEEE-FFFF system:serviceaccount:people:acceptor"}, f.accepted)
}

func TestReleaseNamesTheBatch(t *testing.T) {
	f := newFace(t)
	f.cluster(t, "held")
	ctx := f.as(t, "releaser", "held", works)
	_, err := f.Works.ListHeldDeletes(ctx, &adminv1.ListHeldDeletesRequest{ClusterName: "held"})
	requireReason(t, err, codes.FailedPrecondition, reason.NotFound)
	f.known, f.held = true, []*adminv1.HeldBatch{{BatchId: "b1", Names: []string{"w"}}}
	_, err = f.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: "held", BatchId: "b2"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	_, err = f.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: "held", BatchId: "b1"})
	require.NoError(t, err)
	require.Equal(t, []string{"held b1"}, f.released)
}

func TestWatchWorksShape(t *testing.T) {
	f := newFace(t)
	f.cluster(t, "watch")
	ctx, cancel := context.WithTimeout(f.as(t, "watcher", "", works, looks), time.Minute)
	defer cancel()
	apply := func(name string, size int) {
		_, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: "watch", Name: name, WorkJson: workJSON(manifest("a", size))})
		require.NoError(t, err)
	}
	apply("w", 1)
	stream, err := f.Works.WatchWorks(ctx, &adminv1.WatchWorksRequest{ClusterName: "watch"})
	require.NoError(t, err)
	next := func() *adminv1.WatchWorksResponse {
		event, err := stream.Recv()
		require.NoError(t, err)
		return event
	}
	require.Equal(t, "w", next().GetUpsert().GetRef().GetName(), "the snapshot")
	require.True(t, next().GetBookmark().GetInitialSyncComplete())
	apply("w", 2)
	require.Contains(t, next().GetUpsert().GetWorkJson(), `"generation":2`)
	_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: "watch", Name: "w"})
	require.NoError(t, err)
	require.Contains(t, next().GetUpsert().GetWorkJson(), "deletionTimestamp", "our finalizer keeps it")
}

func TestExplainDelivery(t *testing.T) {
	f := newFace(t)
	f.cluster(t, "explain")
	ctx := f.as(t, "explainer", "", works, looks)
	_, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: "explain", Name: "w"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	_, err = f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: "explain", Name: "w", WorkJson: workJSON(manifest("a", 1))})
	require.NoError(t, err)
	verdict := func() string {
		answer, err := f.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: "explain", Name: "w"})
		require.NoError(t, err)
		return answer.GetVerdict()
	}
	require.Contains(t, verdict(), `stands before "session"`)
	f.sessions = []*adminv1.SessionInfo{{ClusterName: "explain", SessionId: "s", HubReplica: "r1"}}
	require.Contains(t, verdict(), "hub replica r1 knows")
	f.known, f.state = true, admin.DeliveryState{Waiting: true}
	require.Contains(t, verdict(), `stands before "sent"`)
	f.state = admin.DeliveryState{Sent: time.Now()}
	require.Contains(t, verdict(), "not acknowledged yet")
	f.state = admin.DeliveryState{Rejected: "UNDECODABLE: manifests[0]"}
	require.Contains(t, verdict(), "refused this revision: UNDECODABLE")
	f.state = admin.DeliveryState{}
	require.Contains(t, verdict(), `stands before "applied"`)
}
