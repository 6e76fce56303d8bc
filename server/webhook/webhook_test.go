// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/test/bufconn"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reviewer answers SubjectAccessReviews.
type reviewer struct {
	client.Client
	asked  []authorizationv1.SubjectAccessReviewSpec
	allows bool
	err    error
}

func (r *reviewer) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	review := o.(*authorizationv1.SubjectAccessReview)
	r.asked = append(r.asked, review.Spec)
	review.Status.Allowed = r.allows
	return r.err
}

const executed = `{"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}]},` +
	`"executor":{"subject":{"type":"ServiceAccount","serviceAccount":{"namespace":"apps","name":"deployer"}}}}}`

func request(operation admissionv1.Operation, object, old string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: operation, Namespace: "c1", Name: "w", Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
		UserInfo: authenticationv1.UserInfo{
			Username: "bob", UID: "u", Groups: []string{"g1", "g2"}, Extra: map[string]authenticationv1.ExtraValue{"example.com/scope": {"s"}},
		},
	}}
}

// The question is asked as the user of the request, whole, and what gets no
// answer is refused.
func TestExecutor(t *testing.T) {
	asked := &reviewer{allows: true}
	w, err := New(Config{Client: asked, ManifestLimit: 1000})
	require.NoError(t, err)
	require.True(t, w.validateWork(t.Context(), request(admissionv1.Create, executed, "")).Allowed)
	require.Equal(t, []authorizationv1.SubjectAccessReviewSpec{{
		User: "bob", UID: "u", Groups: []string{"g1", "g2"}, Extra: map[string]authorizationv1.ExtraValue{"example.com/scope": {"s"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "execute-as", Group: "work.open-cluster-management.io", Resource: "manifestworks", Namespace: "c1", Name: "system:serviceaccount:apps:deployer",
		},
	}}, asked.asked, "WH-17")

	require.True(t, w.validateWork(t.Context(), request(admissionv1.Update, executed, executed)).Allowed)
	require.Len(t, asked.asked, 1, "it stays as it was")
	asked.allows = false
	refused := w.validateWork(t.Context(), request(admissionv1.Update, executed, `{}`))
	require.False(t, refused.Allowed)
	require.EqualValues(t, http.StatusForbidden, refused.Result.Code)
	asked.allows, asked.err = true, errors.New("the apiserver is busy")
	refused = w.validateWork(t.Context(), request(admissionv1.Create, executed, ""))
	require.False(t, refused.Allowed, "no answer is a no")
	require.EqualValues(t, http.StatusInternalServerError, refused.Result.Code)
	asked.err = nil
	nobody := `{"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}]},"executor":{"subject":{"type":"ServiceAccount"}}}}`
	require.EqualValues(t, http.StatusBadRequest, w.validateWork(t.Context(), request(admissionv1.Create, nobody, "")).Result.Code, "who is it?")
}

// TestReplicaSets: the hub makes their works, so their author needs the right to
// the executor in every cluster.
func TestReplicaSets(t *testing.T) {
	set := func(executor string) string {
		return `{"spec":{"manifestWorkTemplate":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}]}` + executor + `}}}`
	}
	const deployer = `,"executor":{"subject":{"type":"ServiceAccount","serviceAccount":{"namespace":"apps","name":"deployer"}}}`
	asked := &reviewer{allows: true}
	w, err := New(Config{Client: asked, ManifestLimit: 1000, ReplicaSets: true})
	require.NoError(t, err)
	allowed := func(operation admissionv1.Operation, object, old string) bool {
		asked.asked = nil
		return w.validateReplicaSet(t.Context(), request(operation, object, old)).Allowed
	}
	require.True(t, allowed(admissionv1.Create, set(deployer), ""), "WH-17")
	require.Len(t, asked.asked, 1)
	require.Equal(t, authorizationv1.ResourceAttributes{
		Verb: "execute-as", Group: "work.open-cluster-management.io", Resource: "manifestworks", Name: "system:serviceaccount:apps:deployer",
	}, *asked.asked[0].ResourceAttributes, "in no namespace, which is all of them")
	require.True(t, allowed(admissionv1.Update, set(deployer), set(deployer)))
	require.Empty(t, asked.asked, "it stays as it was")
	require.True(t, allowed(admissionv1.Create, set(""), ""))
	require.Empty(t, asked.asked, "while the gate is off")
	w.cfg.CheckNilExecutor = true
	require.True(t, allowed(admissionv1.Update, set(""), set(deployer)), "WH-18")
	require.Equal(t, "system:serviceaccount::klusterlet-work-sa", asked.asked[0].ResourceAttributes.Name)
	asked.allows = false
	require.False(t, allowed(admissionv1.Update, set(deployer), set("")))
	require.False(t, allowed(admissionv1.Create, set(""), ""))
}

func TestFinalizer(t *testing.T) {
	served := true
	w, err := New(Config{Served: func(_ context.Context, cluster string) bool { return served && cluster == "c1" }})
	require.NoError(t, err)
	patch := func(operation admissionv1.Operation, object string) string {
		answer := w.mutateWork(t.Context(), request(operation, object, ""))
		require.True(t, answer.Allowed)
		return string(answer.Patch)
	}
	require.JSONEq(t, `[{"op":"add","path":"/metadata/finalizers","value":["`+identity.ManifestWorkFinalizer+`"]}]`, patch(admissionv1.Create, `{"metadata":{"name":"w"}}`), "MW-02")
	require.JSONEq(t, `[{"op":"add","path":"/metadata/finalizers","value":["a/b","`+identity.ManifestWorkFinalizer+`"]}]`, patch(admissionv1.Create, `{"metadata":{"finalizers":["a/b"]}}`))
	require.Empty(t, patch(admissionv1.Create, `{"metadata":{"finalizers":["`+identity.ManifestWorkFinalizer+`"]}}`), "it is there")
	require.Empty(t, patch(admissionv1.Update, `{"metadata":{}}`), "a change puts nothing back, least of all on what is being deleted")
	served = false
	require.Empty(t, patch(admissionv1.Create, `{"metadata":{}}`), "no agent would take it off")
}

func TestBundle(t *testing.T) {
	root := func() *x509.Certificate {
		ca, err := pki.NewCA("ca", time.Now(), time.Hour)
		require.NoError(t, err)
		return ca.Cert
	}
	ours, other := root(), root()
	for name, tc := range map[string]struct {
		existing []byte
		keep     bool
		want     []byte
		known    bool
	}{
		"empty":           {nil, true, pki.EncodeCertificates(ours), false},
		"garbage":         {[]byte("x"), true, pki.EncodeCertificates(ours), false},
		"beside others":   {pki.EncodeCertificates(other), true, pki.EncodeCertificates(ours, other), false},
		"there":           {pki.EncodeCertificates(other, ours), true, pki.EncodeCertificates(other, ours), true},
		"instead":         {pki.EncodeCertificates(other), false, pki.EncodeCertificates(ours), false},
		"others are over": {pki.EncodeCertificates(other, ours), false, pki.EncodeCertificates(ours), true},
	} {
		t.Run(name, func(t *testing.T) {
			got, known := bundle(tc.existing, ours, tc.keep)
			require.Equal(t, string(tc.want), string(got))
			require.Equal(t, tc.known, known)
		})
	}
}

// TestT74_admission: whoever reaches the port and is no apiserver costs little.
func TestT74_admission(t *testing.T) {
	w, err := New(Config{Client: &reviewer{}, ManifestLimit: 1000, Served: func(context.Context, string) bool { return true }})
	require.NoError(t, err)
	post := func(path string, body []byte) (int, admissionv1.AdmissionReview) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		jsonOnly(w.mux).ServeHTTP(recorder, r)
		var review admissionv1.AdmissionReview
		raw, err := io.ReadAll(recorder.Body)
		require.NoError(t, err)
		_ = json.Unmarshal(raw, &review)
		return recorder.Code, review
	}
	for name, body := range map[string][]byte{
		"empty": nil, "no JSON": []byte("x"), "no request": []byte(`{}`), "nested": []byte(string(bytes.Repeat([]byte(`{"a":`), 100_000)) + "1"),
		"no object": []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE"}}`),
		"too large": bytes.Repeat([]byte(" "), 8<<20), "YAML": []byte("kind: AdmissionReview\napiVersion: admission.k8s.io/v1\nrequest: {uid: u, operation: CREATE, object: {}}\n"),
	} {
		for _, path := range []string{pathValidateWorks, pathValidateReplicaSets, pathValidateClusters, pathMutateClusters, pathValidateBindings} {
			_, review := post(path, body)
			require.True(t, review.Response == nil || !review.Response.Allowed, "%s %s", name, path)
		}
		post(pathMutateWorks, body)
	}
	code, _ := post("/", []byte(`{}`))
	require.Equal(t, http.StatusNotFound, code)
	code, _ = post(pathValidateWorks, []byte("kind: AdmissionReview"))
	require.Equal(t, http.StatusBadRequest, code, "YAML is not even read")
}

// TestBounded: no more requests are in hand than there is memory for.
func TestBounded(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	h := bounded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		started <- struct{}{}
		<-release
	}), 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody))
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", http.NoBody))
	require.Equal(t, http.StatusServiceUnavailable, recorder.Code)
	close(release)
	<-done
}

// TestServe ends with its context, though a request is still being sent.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("ca", time.Now(), time.Hour)
		require.NoError(t, err)
		serving, err := ca.IssueServing([]string{"hub"}, time.Now(), time.Hour)
		require.NoError(t, err)
		w, err := New(Config{})
		require.NoError(t, err)
		listener := bufconn.Listen(1 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- w.Serve(ctx, listener, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving, nil })
		}()
		roots := x509.NewCertPool()
		roots.AddCert(ca.Cert)
		conn, err := listener.Dial()
		require.NoError(t, err)
		client := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "hub"})
		_, err = client.Write([]byte("POST " + pathValidateWorks + " HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{"))
		require.NoError(t, err)
		synctest.Wait()
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, conn.Close())
	})
}
