// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/deploy"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "admin", CRDs: deploy.HubCRDs()}) }

const limit = 20_000

// rooms stands in for the rooms below the face, which have tests of their own.
// Tests change it by with, since watches read it meanwhile.
type rooms struct {
	mu          sync.Mutex
	tokens      []admin.Token
	enrollments []*adminv1.Enrollment
	sessions    []*adminv1.SessionInfo
	held        []*adminv1.HeldBatch
	done        []string // what was asked of the rooms, in words
	state       admin.DeliveryState
	known       bool
}

func (r *rooms) with(change func(*rooms)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// did takes what was asked of the rooms since the last time.
func (r *rooms) did() (done []string) {
	r.with(func(r *rooms) { done, r.done = r.done, nil })
	return done
}

func (r *rooms) note(format string, args ...any) error {
	r.with(func(r *rooms) { r.done = append(r.done, fmt.Sprintf(format, args...)) })
	return nil
}

func (r *rooms) Create(_ context.Context, p admin.TokenPolicy, by string) (token admin.Token, _ error) {
	r.with(func(r *rooms) {
		token = admin.Token{ID: fmt.Sprintf("t%d", len(r.tokens)), Presented: "secret", JoinString: "flj1_x", Policy: p, Expires: time.Unix(2e9, 0), CreatedBy: by}
		r.tokens = append(r.tokens, token)
	})
	return token, nil
}

func (r *rooms) List(context.Context) (list []admin.Token, _ error) {
	r.with(func(r *rooms) { list = slices.Clone(r.tokens) })
	return list, nil
}
func (r *rooms) Revoke(_ context.Context, id string) error { return r.note("revoke %s", id) }

type enrollments struct{ *rooms }

func (r enrollments) List(context.Context) (list []*adminv1.Enrollment, _ error) {
	r.with(func(r *rooms) { list = slices.Clone(r.enrollments) })
	return list, nil
}

func (r enrollments) Accept(_ context.Context, _ *rest.Config, id, code, by string) error {
	return r.note("accept %s %s by %s", id, code, by)
}

func (r enrollments) Deny(_ context.Context, _ *rest.Config, id, why, by string) error {
	return r.note("deny %s %q by %s", id, why, by)
}

func (r enrollments) Vouch(_ context.Context, _ *rest.Config, id, serial string) error {
	return r.note("vouch %s %s", id, serial)
}

type sessions struct{ *rooms }

func (r sessions) List(context.Context) (list []*adminv1.SessionInfo, _ error) {
	r.with(func(r *rooms) { list = slices.Clone(r.sessions) })
	return list, nil
}

func (r sessions) Kick(_ context.Context, cluster, id string) error {
	return r.note("kick %s %s", cluster, id)
}

func (r sessions) Held(string) (held []*adminv1.HeldBatch, known bool) {
	r.with(func(r *rooms) { held, known = r.held, r.known })
	return held, known
}

func (r sessions) Release(_ context.Context, cluster, batch string) error {
	return r.note("release %s %s", cluster, batch)
}

func (r *rooms) State(string, wire.Key) (state admin.DeliveryState, known bool) {
	r.with(func(r *rooms) { state, known = r.state, r.known })
	return state, known
}
func (r *rooms) Digest(string, wire.Key) (wire.Digest, bool) { return wire.Digest{1}, true }

// journal is a log that tests can read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// face is the services behind a server that does what the interceptors do with
// a person's token.
type face struct {
	*rooms
	plane       *env.Plane
	kube        kubernetes.Interface
	clusters    clusterclient.Interface
	log         *journal
	later       atomic.Int64 // nanoseconds by which the hub's clock is ahead
	Enrollments adminv1.EnrollmentAdminServiceClient
	Clusters    adminv1.ClusterAdminServiceClient
	Works       adminv1.WorkAdminServiceClient
	Placements  adminv1.PlacementAdminServiceClient
}

func newFace(t *testing.T) *face {
	t.Helper()
	return newFaceOf(t, env.Shared(t).RESTConfig())
}

// newFaceOf is a hub with these credentials of its own, and other settings.
func newFaceOf(t *testing.T, hub *rest.Config, settings ...func(*admin.Config)) *face {
	t.Helper()
	f := &face{rooms: &rooms{}, plane: env.Shared(t), log: &journal{}}
	config := admin.Config{
		REST: hub, ManifestLimit: limit, Tokens: f.rooms, Enrollments: enrollments{f.rooms}, Sessions: sessions{f.rooms}, Deliveries: f.rooms,
		Works:  func(string) int { return 5 },
		Now:    func() time.Time { return time.Now().Add(time.Duration(f.later.Load())) },
		Logger: slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, set := range settings {
		set(&config)
	}
	service := admin.New(config)
	callers := person.NewCallers(hub)
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, err := identify(ctx, callers)
			if err != nil {
				return nil, sent(err)
			}
			answer, err := handler(ctx, request)
			return answer, sent(err)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, err := identify(stream.Context(), callers)
			if err != nil {
				return sent(err)
			}
			return sent(handler(srv, identified{stream, ctx}))
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
	f.kube, err = kubernetes.NewForConfig(f.plane.RESTConfig())
	require.NoError(t, err)
	f.clusters, err = clusterclient.NewForConfig(f.plane.RESTConfig())
	require.NoError(t, err)
	f.Placements = adminv1.NewPlacementAdminServiceClient(conn)
	f.Enrollments, f.Clusters, f.Works = adminv1.NewEnrollmentAdminServiceClient(conn), adminv1.NewClusterAdminServiceClient(conn), adminv1.NewWorkAdminServiceClient(conn)
	return f
}

// identify is what the interceptors do with a bearer token; what has none goes on,
// and gets no further.
func identify(ctx context.Context, callers *person.Callers) (context.Context, error) {
	caller := &authz.Caller{Type: authz.Person}
	caller.Token, _ = strings.CutPrefix(strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ""), "Bearer ")
	if caller.Token == "" {
		return authz.WithCaller(ctx, caller), nil
	}
	var err error
	caller.Name, err = callers.Authenticate(ctx, caller.Token)
	return authz.WithCaller(ctx, caller), err
}

// sent is what the interceptors make of a handler's error.
func sent(err error) error {
	if err == nil {
		return nil
	}
	return rpcerr.From(err).GRPCStatus().Err()
}

type identified struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc's own way to give a stream a context
}

func (s identified) Context() context.Context { return s.ctx }

// as is a context with the token of a person who has these rules in a namespace
// (empty: in the whole cluster).
func (f *face) as(t *testing.T, name, namespace string, rules ...rbacv1.PolicyRule) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+f.token(t, name, namespace, rules...))
}

// token is the token of a new person, system:serviceaccount:people:NAME.
func (f *face) token(t *testing.T, name, namespace string, rules ...rbacv1.PolicyRule) string {
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
	afterwards, unbind := context.WithoutCancel(ctx), func() error { return nil }
	t.Cleanup(func() { // the test may run again
		require.NoError(t, f.kube.CoreV1().ServiceAccounts(home).Delete(afterwards, name, metav1.DeleteOptions{}))
		require.NoError(t, f.kube.RbacV1().ClusterRoles().Delete(afterwards, meta.Name, metav1.DeleteOptions{}))
		if err := unbind(); !apierrors.IsNotFound(err) {
			require.NoError(t, err)
		}
	})
	_, err = f.kube.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}
	if namespace == "" {
		unbind = func() error {
			return f.kube.RbacV1().ClusterRoleBindings().Delete(afterwards, meta.Name, metav1.DeleteOptions{})
		}
		_, err = f.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}, metav1.CreateOptions{})
	} else {
		unbind = func() error {
			return f.kube.RbacV1().RoleBindings(namespace).Delete(afterwards, meta.Name, metav1.DeleteOptions{})
		}
		_, err = f.kube.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}, metav1.CreateOptions{})
	}
	require.NoError(t, err)
	env.AwaitRights(t, f.plane.RESTConfig(), "system:serviceaccount:"+home+":"+name, namespace, rules...)
	config, err := f.plane.TokenConfig(ctx, home, name)
	require.NoError(t, err)
	return config.BearerToken
}

// cluster makes a ManagedCluster with its namespace, as acceptance does, and
// returns its name, which begins with prefix.
func (f *face) cluster(t *testing.T, prefix string) string {
	t.Helper()
	name := f.plane.Unique(prefix)
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true}}
	_, err := f.clusters.ClusterV1().ManagedClusters().Create(t.Context(), cluster, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = f.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return name
}

func rule(group, resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
}

func works() rbacv1.PolicyRule { return rule("work.open-cluster-management.io", "manifestworks", "*") }

func looks() rbacv1.PolicyRule {
	return rule("cluster.open-cluster-management.io", "managedclusters", "get", "list", "watch")
}

func accepts() rbacv1.PolicyRule {
	return rule("register.open-cluster-management.io", "managedclusters/accept", "update")
}

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
