// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package executor

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	workv1 "open-cluster-management.io/api/work/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const app = "system:serviceaccount:team:app"

// apiserver answers access reviews by judge and keeps what it was asked.
type apiserver struct {
	judge func(authorizationv1.SubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus

	mu    sync.Mutex
	asked []authorizationv1.SubjectAccessReviewSpec
}

func (a *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.asked = append(a.asked, review.Spec)
	a.mu.Unlock()
	review.Status = a.judge(review.Spec)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the client reports what is missing
}

func (a *apiserver) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

func checkerOn(t *testing.T, a *apiserver, edits ...func(*Config)) *Checker {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	idle := &http.Transport{DisableKeepAlives: true}
	cfg := Config{
		REST:   &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}, QPS: -1, Transport: idle},
		Logger: slog.Default(), Clock: clocktesting.NewFakePassiveClock(time.Now()),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	checker, err := New(cfg)
	require.NoError(t, err)
	return checker
}

func configMap(name string) Request {
	manifest := &unstructured.Unstructured{Object: map[string]any{}}
	manifest.SetNamespace("prod")
	manifest.SetName(name)
	return Request{Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Manifest: manifest, Verbs: Verbs(false, true)}
}

func TestExecutor_what_is_asked(t *testing.T) {
	server := &apiserver{judge: func(authorizationv1.SubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
		return authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	}}
	checker := checkerOn(t, server)
	round := checker.Round(app)
	for _, name := range []string{"a", "b", "c"} {
		require.NoError(t, round.Check(t.Context(), configMap(name)))
	}
	require.Equal(t, 5, server.count(), "a yes for all names is a yes for each")
	var verbs []string
	for _, spec := range server.asked {
		require.Equal(t, app, spec.User)
		require.Equal(t, []string{"system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"}, spec.Groups)
		require.Equal(t, "prod", spec.ResourceAttributes.Namespace)
		require.Equal(t, "configmaps", spec.ResourceAttributes.Resource)
		verbs = append(verbs, spec.ResourceAttributes.Verb)
	}
	require.Equal(t, []string{"create", "update", "patch", "get", "delete"}, verbs)
	require.NoError(t, checker.Round(app).Check(t.Context(), configMap("a")))
	require.Equal(t, 10, server.count(), "nothing is remembered from one pass to the next")
}

func TestExecutor_no_is_no(t *testing.T) {
	server := &apiserver{judge: func(spec authorizationv1.SubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
		switch spec.ResourceAttributes.Verb {
		case "update":
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}
		case "patch":
			return authorizationv1.SubjectAccessReviewStatus{EvaluationError: "role \"gone\" not found"}
		}
		return authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	}}
	err := checkerOn(t, server).Round(app).Check(t.Context(), configMap("a"))
	var denied *DeniedError
	require.ErrorAs(t, err, &denied)
	require.Equal(t, []string{"update", "patch"}, denied.Verbs)
	require.True(t, denied.MayRead())
	require.EqualError(t, err, `not allowed to apply the resource configmaps "a" in namespace "prod": executor `+app+` lacks update, patch (role "gone" not found)`)
}

// TestExecutor_answers_are_kept_while_rights_are_watched steps over Run: it sets what the watches would.
func TestExecutor_answers_are_kept_while_rights_are_watched(t *testing.T) {
	allowed := true
	server := &apiserver{judge: func(authorizationv1.SubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
		return authorizationv1.SubjectAccessReviewStatus{Allowed: allowed}
	}}
	clock := clocktesting.NewFakePassiveClock(time.Now())
	checker := checkerOn(t, server, func(c *Config) { c.Cache, c.Clock = true, clock })
	asks := func() int {
		before := server.count()
		_ = checker.Round(app).Check(t.Context(), configMap("a")) // what it says is not the point
		return server.count() - before
	}
	step := func(d time.Duration) { clock.SetTime(clock.Now().Add(d)) }

	asks()
	require.Equal(t, 5, asks(), "nothing is watched yet")
	for _, resource := range resources() {
		require.NoError(t, checker.rights.seen(t.Context(), resource, nil))
	}
	require.Equal(t, 5, asks())
	require.Equal(t, 5, asks(), "rights have just changed: the apiserver may answer from before")
	step(settling)
	require.Equal(t, 5, asks())
	require.Zero(t, asks(), "remembered")
	step(keepAllowed - time.Second)
	require.Zero(t, asks())
	step(time.Second)
	require.Equal(t, 5, asks(), "not for ever")

	epoch := checker.Epoch()
	allowed = false
	require.NoError(t, follower{rights: checker.rights}.Update(nil))
	require.NotEqual(t, epoch, checker.Epoch())
	require.Equal(t, 10, asks(), "a change ends it")
	step(settling)
	asks()
	require.Zero(t, asks(), "a no is remembered")
	step(keepDenied)
	require.Equal(t, 10, asks(), "not for long")
	require.Zero(t, asks())

	require.ErrorIs(t, checker.rights.seen(t.Context(), "roles", http.ErrServerClosed), http.ErrServerClosed)
	step(keepDenied)
	asks()
	require.Equal(t, 10, asks(), "a watch that failed shows nothing")
	require.NoError(t, checker.rights.seen(t.Context(), "roles", nil))
	step(settling)
	asks()
	require.Zero(t, asks(), "one that is back does")
}

func TestSubjectOf(t *testing.T) {
	account := &workv1.ManifestWorkSubjectServiceAccount{Namespace: "team", Name: "app"}
	got, err := SubjectOf(&workv1.ManifestWorkExecutor{Subject: workv1.ManifestWorkExecutorSubject{Type: "ServiceAccount", ServiceAccount: account}})
	require.NoError(t, err)
	require.Equal(t, app, got)
	for name, subject := range map[string]workv1.ManifestWorkExecutorSubject{
		"no type":      {ServiceAccount: account},
		"another type": {Type: "Group", ServiceAccount: account},
		"no account":   {Type: "ServiceAccount"},
		"no name":      {Type: "ServiceAccount", ServiceAccount: &workv1.ManifestWorkSubjectServiceAccount{Namespace: "team"}},
	} {
		_, err := SubjectOf(&workv1.ManifestWorkExecutor{Subject: subject})
		require.Error(t, err, name)
	}
}
