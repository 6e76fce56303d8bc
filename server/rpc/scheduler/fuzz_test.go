// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	fakeinterceptor "sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpctest"
	"fairlead.dev/fairlead/server/rpc/scheduler"
	"fairlead.dev/fairlead/test/hostile"
)

// FuzzMethods calls any method of SchedulerService, through the real chain and with
// an apiserver that allows everything, with anything (T55). Each call is answered, if
// not with what was asked for then with an error that has a reason; nothing panics.
func FuzzMethods(f *testing.F) {
	hub, registry := hubOfOne(f), prometheus.NewRegistry()
	server := serve(f, hub, hub, registry)
	conn := server.Dial(f, nil)
	methods, err := hostile.Methods(server.GRPC.GetServiceInfo())
	require.NoError(f, err)
	require.Len(f, methods, 5)
	term, err := schedulerv1.NewSchedulerServiceClient(conn).AcquireTerm(as(f.Context()), &schedulerv1.AcquireTermRequest{
		SchedulerName: "cheapest", Holder: "me", Ttl: durationpb.New(10 * time.Minute),
	})
	require.NoError(f, err)
	seed(f, methods, term.GetTerm())
	f.Fuzz(func(t *testing.T, method byte, chosen bool, data []byte) {
		m := methods[int(method)%len(methods)]
		request := data
		if chosen {
			request = hostile.NewRandom(data, "c1", "shop", "web", "cheapest", "me", "p1", "load", "cpu", "a=b", "../c2", "not=(valid").Message(m.Input)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, m.Fault(hostile.Call(as(ctx), conn, m, [][]byte{request})))
		require.Zero(t, rpctest.Metric(t, registry, "fairlead_hub_panics_total"), m.Name)
	})
}

// The cache of the hub has not heard yet of a placement, and then not of its
// scheduler: a decision on it waits, and is not refused.
func TestSubmitDecision_of_a_placement_that_the_cache_lacks(t *testing.T) {
	direct, looks := hubOfOne(t), 0
	lagging := fakeinterceptor.NewClient(direct, fakeinterceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			err := c.Get(ctx, key, object, options...)
			if _, ok := object.(*clusterv1beta1.Placement); !ok {
				return err
			}
			looks++
			switch looks {
			case 1:
				return apierrors.NewNotFound(clusterv1beta1.Resource("placements"), key.Name)
			case 2:
				object.SetAnnotations(nil)
			case 3:
				object.SetUID("of before")
			}
			return err
		},
	})
	api := schedulerv1.NewSchedulerServiceClient(serve(t, lagging, direct, prometheus.NewRegistry()).Dial(t, nil))
	term, err := api.AcquireTerm(as(t.Context()), &schedulerv1.AcquireTermRequest{SchedulerName: "cheapest", Holder: "me", Ttl: durationpb.New(10 * time.Minute)})
	require.NoError(t, err)
	submit := func(uid string) (*schedulerv1.SubmitDecisionResponse, error) {
		return api.SubmitDecision(as(t.Context()), &schedulerv1.SubmitDecisionRequest{
			Placement: &schedulerv1.PlacementRef{Namespace: "shop", Name: "web", Uid: uid}, ObservedGeneration: 1, Term: term.GetTerm(),
			ClusterNames: []string{"c1"}, RequestId: "r1", DryRun: true,
		})
	}
	answer, err := submit("p1")
	require.NoError(t, err)
	require.True(t, answer.GetApplied())
	require.Equal(t, 4, looks)

	_, err = submit("of before")
	require.Equal(t, codes.NotFound, status.Code(err), "%v", err)
	require.Equal(t, 4, looks, "the apiserver knows, so nobody waits for the cache")
}

// serve is a service on an apiserver that allows everything.
func serve(tb testing.TB, cache, direct client.Client, registry *prometheus.Registry) *rpctest.Server {
	tb.Helper()
	apiserver := httptest.NewServer(http.HandlerFunc(yes))
	tb.Cleanup(apiserver.Close)
	service, err := scheduler.New(scheduler.Config{
		REST: &rest.Config{Host: apiserver.URL}, Namespace: identity.HubNamespace, Cache: cache, Direct: direct, Epoch: func() string { return "e1" },
		LastSeen: func(string) time.Time { return time.Time{} }, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(tb, err)
	return rpctest.Serve(tb, rpctest.NewPKI(tb), interceptor.Config{
		Listener: authz.AdminListener, Table: rpctest.Free(authz.Methods()), Log: slog.New(slog.DiscardHandler), Registry: registry,
		Authenticate: func(context.Context, string) (string, error) { return "me", nil },
	}, func(s *grpc.Server) { service.Register(s) })
}

func as(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer token")
}

// hubOfOne has one cluster that one placement, of an external scheduler, may have.
func hubOfOne(tb testing.TB) client.WithWatch {
	tb.Helper()
	scheme := runtime.NewScheme()
	require.NoError(tb, errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), clusterv1alpha1.Install(scheme), clusterv1beta1.Install(scheme), clusterv1beta2.Install(scheme)))
	binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "s1"}}
	binding.Spec.ClusterSet = "s1"
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "c1", Labels: map[string]string{clusterv1beta2.ClusterSetLabel: "s1"}}},
		&clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: "s1"}}, binding,
		&clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "p1", Generation: 1, Annotations: map[string]string{v1alpha1.AnnotationScheduler: "cheapest"},
		}},
	).Build()
}

// seed adds a good request of each kind, and every bad shape of each.
func seed(f *testing.F, methods []hostile.Method, term uint64) {
	f.Helper()
	good := []proto.Message{
		&schedulerv1.WatchClustersRequest{LabelSelector: "a=b"},
		&schedulerv1.WatchPlacementsRequest{SchedulerName: "cheapest"},
		&schedulerv1.AcquireTermRequest{SchedulerName: "cheapest", Holder: "me", Ttl: durationpb.New(time.Minute)},
		&schedulerv1.SubmitDecisionRequest{
			Placement: &schedulerv1.PlacementRef{Namespace: "shop", Name: "web", Uid: "p1"}, ObservedGeneration: 1, Term: term, ClusterNames: []string{"c1"}, RequestId: "r1",
		},
		&schedulerv1.ReportScoresRequest{ScoreName: "load", Score: "cpu", Scores: map[string]int64{"c1": 5}},
	}
	require.NoError(f, hostile.Seeds(methods, good, func(method byte, chosen bool, data []byte) { f.Add(method, chosen, data) }))
}

// yes is an apiserver on which a person may do everything, with one object, c1, of
// each kind; what is written comes back, and nothing changes.
func yes(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	answer, code := string(body), http.StatusOK
	switch {
	case strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/"):
		answer, code = `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`, http.StatusCreated
	case strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/"):
		answer, code = `{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","status":{"userInfo":{"username":"fuzzer"}}}`, http.StatusCreated
	case r.URL.Query().Get("watch") != "":
		w.WriteHeader(code)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	case r.Method == http.MethodGet:
		answer = `{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"9"},"items":[` +
			`{"metadata":{"name":"c1","namespace":"shop","resourceVersion":"5"}}]}`
	case r.Method == http.MethodPost:
		code = http.StatusCreated
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, answer)
}
