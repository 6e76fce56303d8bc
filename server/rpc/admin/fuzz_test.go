// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpctest"
	"fairlead.dev/fairlead/test/hostile"
)

// FuzzMethods calls any method of the admin services, through the real chain and
// with an apiserver that allows everything, with anything. Each call is answered,
// if not with what was asked for then with an error that has a reason; nothing
// panics; and what the apiserver gets to see are paths of the kinds that the
// services are about.
func FuzzMethods(f *testing.F) {
	kube := &yesServer{}
	apiserver := httptest.NewServer(kube)
	f.Cleanup(apiserver.Close)
	rooms, registry := &rooms{}, prometheus.NewRegistry()
	service := admin.New(admin.Config{
		REST: &rest.Config{Host: apiserver.URL}, ManifestLimit: limit, Tokens: rooms, Enrollments: enrollments{rooms}, Sessions: sessions{rooms},
		Deliveries: rooms, Works: func(string) int { return 5 }, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	server := rpctest.Serve(f, rpctest.NewPKI(f), interceptor.Config{
		Listener: authz.AdminListener, Table: rpctest.Free(authz.Methods()), Log: slog.New(slog.DiscardHandler), Registry: registry,
	}, func(s *grpc.Server) { service.Register(s) })
	conn := server.Dial(f, nil)
	methods, err := hostile.Methods(server.GRPC.GetServiceInfo())
	require.NoError(f, err)
	require.GreaterOrEqual(f, len(methods), 20)
	seedMethods(f, methods)
	f.Fuzz(func(t *testing.T, method byte, chosen bool, data []byte) {
		m := methods[int(method)%len(methods)]
		request := data
		if chosen {
			request = hostile.NewRandom(data, "c1", "web", "e1", "s1", "batch", "ABCD-EFGH-IJKL", "Pending", "a=b", "5", workJSON(manifest("cm", 3)), "../c2", "not=(valid").Message(m.Input)
		}
		rooms.with(furnish)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer token")
		require.NoError(t, m.Fault(hostile.Call(ctx, conn, m, [][]byte{request})))
		require.Zero(t, rpctest.Metric(t, registry, "fairlead_hub_panics_total"), m.Name)
		require.Nil(t, kube.strange.Load(), "the caller chose a path")
	})
}

// furnish puts one thing of each kind where the services look for it.
func furnish(r *rooms) {
	r.tokens, r.done, r.known = nil, nil, true
	r.enrollments = []*adminv1.Enrollment{{EnrollmentId: "e1", ClusterName: "c1", PairingCode: "ABCD-EFGH-IJKL", State: "Pending"}}
	r.sessions = []*adminv1.SessionInfo{{SessionId: "s1", ClusterName: "s1", Live: true}}
	r.held = []*adminv1.HeldBatch{{BatchId: "batch"}}
}

// seedMethods adds a good request of most kinds, and every bad shape of each.
func seedMethods(f *testing.F, methods []hostile.Method) {
	f.Helper()
	good := []proto.Message{
		&adminv1.ApplyWorkRequest{ClusterName: "c1", Name: "web", WorkJson: workJSON(manifest("cm", 3))},
		&adminv1.AcceptEnrollmentRequest{ClusterName: "c1", PairingCode: "ABCD-EFGH-IJKL"},
		&adminv1.CreateJoinTokenRequest{ClusterName: "c1", AutoAccept: true},
		&adminv1.ListWorksRequest{ClusterName: "c1", LabelSelector: "a=b", PageSize: 1},
		&adminv1.WatchWorksRequest{ClusterName: "c1", Name: "web"},
		&adminv1.ExplainDeliveryRequest{ClusterName: "c1", Name: "web"},
		&adminv1.DeleteWorkRequest{ClusterName: "c1", Name: "web", Uid: "uid-web"},
		&adminv1.RevokeClusterRequest{Name: "c1", Uid: "uid-c1"},
		&adminv1.ReleaseHeldDeletesRequest{ClusterName: "c1", BatchId: "batch"},
		&adminv1.KickSessionRequest{SessionId: "s1"},
	}
	require.NoError(f, hostile.Seeds(methods, good, func(method byte, chosen bool, data []byte) { f.Add(method, chosen, data) }))
}

// yesServer is an apiserver with one cluster, c1, and one work, web, on which a
// person may do everything; nothing changes them.
type yesServer struct {
	strange atomic.Pointer[string] // a path that it was asked for and no service is about
}

// ServeHTTP implements http.Handler.
func (s *yesServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const works, clusters = "/apis/work.open-cluster-management.io/v1/", "/apis/cluster.open-cluster-management.io/v1/managedclusters"
	body, _ := io.ReadAll(r.Body)
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
		answer(w, http.StatusCreated, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`)
	case strings.HasPrefix(path, "/apis/authentication.k8s.io/v1/selfsubjectreviews"):
		answer(w, http.StatusCreated, `{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","status":{"userInfo":{"username":"fuzzer"}}}`)
	case strings.HasPrefix(path, works):
		s.object(w, r, body, strings.HasSuffix(path, "/manifestworks"), strings.HasSuffix(path, "/c1/manifestworks/web"),
			`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"web","namespace":"c1","uid":"uid-web","resourceVersion":"5","generation":1},`+
				`"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm"}}]}}}`)
	case strings.HasPrefix(path, clusters):
		s.object(w, r, body, path == clusters, path == clusters+"/c1",
			`{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"c1","uid":"uid-c1","resourceVersion":"5"},"spec":{"hubAcceptsClient":true}}`)
	default:
		s.strange.Store(&path)
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	}
}

// object answers about one kind: its list, its one object, or others.
func (s *yesServer) object(w http.ResponseWriter, r *http.Request, body []byte, list, found bool, object string) {
	_, badSelector := labels.Parse(r.URL.Query().Get("labelSelector"))
	switch {
	case badSelector != nil:
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
	case list && r.URL.Query().Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case list && r.Method == http.MethodGet && r.URL.Query().Get("continue") != "":
		refuse(w, http.StatusGone, metav1.StatusReasonExpired)
	case list && r.Method == http.MethodGet:
		answer(w, http.StatusOK, `{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"9"},"items":[`+object+`]}`)
	case list && r.Method == http.MethodPost && json.Valid(body):
		answer(w, http.StatusCreated, string(body))
	case !found:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case r.Method == http.MethodPut && !json.Valid(body):
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
	case r.Method == http.MethodPut:
		answer(w, http.StatusOK, string(body))
	default:
		answer(w, http.StatusOK, object)
	}
}

func answer(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body)
}

func refuse(w http.ResponseWriter, code int, why metav1.StatusReason) {
	body, _ := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: why, Message: string(why),
		Details: &metav1.StatusDetails{Name: "x"},
	})
	answer(w, code, string(body))
}
