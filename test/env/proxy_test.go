// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// proxied is a proxy before the shared plane and a namespace to use it in.
type proxied struct {
	*Proxy
	through, direct kubernetes.Interface
	namespace       string
}

func newProxied(t *testing.T) proxied {
	t.Helper()
	plane := Shared(t)
	proxy := StartProxy(t, plane.RESTConfig())
	return proxied{
		Proxy:     proxy,
		through:   clientOf(t, proxy.RESTConfig()),
		direct:    clientOf(t, plane.RESTConfig()),
		namespace: plane.Namespace(t, "proxied"),
	}
}

func TestProxy_forwards_identities(t *testing.T) {
	t.Parallel()
	plane := Shared(t)
	namespace := plane.Namespace(t, "identities")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}
	_, err := clientOf(t, plane.RESTConfig()).CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{})
	require.NoError(t, err)
	robot, err := plane.TokenConfig(t.Context(), namespace, "robot")
	require.NoError(t, err)
	proxy := StartProxy(t, plane.RESTConfig())
	get := func(config *rest.Config) error {
		_, err := clientOf(t, config).CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
		return err
	}
	require.NoError(t, get(proxy.RESTConfig()), "the identity of the target config")
	require.ErrorContains(t, get(proxy.Through(robot)), `User "system:serviceaccount:`+namespace+`:robot" cannot get`)
}

func TestProxy_counts(t *testing.T) {
	t.Parallel()
	proxy := newProxied(t)
	maps := proxy.through.CoreV1().ConfigMaps(proxy.namespace)
	_, err := maps.Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{})
	require.NoError(t, err)
	for range 2 {
		_, err = maps.Get(t.Context(), "a", metav1.GetOptions{})
		require.NoError(t, err)
	}
	_, err = proxy.through.CoreV1().ServiceAccounts(proxy.namespace).CreateToken(t.Context(), "none", nil, metav1.CreateOptions{})
	require.Error(t, err)
	require.Equal(t, map[Call]int{
		{"create", "configmaps", proxy.namespace, "a"}:               1,
		{"get", "configmaps", proxy.namespace, "a"}:                  2,
		{"create", "serviceaccounts/token", proxy.namespace, "none"}: 1,
	}, normalised(proxy.Calls()))
	require.Equal(t, 2, proxy.Count(Match{Verbs: Writes()}))
	require.Equal(t, 3, proxy.Count(Match{Resources: []string{"configmaps"}, Namespace: proxy.namespace}))
	require.Zero(t, proxy.Count(Match{Name: "b"}))
	proxy.ResetCounts()
	require.Zero(t, proxy.Count(Match{}))
}

// normalised gives creates the name that only their body holds.
func normalised(calls map[Call]int) map[Call]int {
	for call, n := range calls {
		if call.Verb == "create" && call.Name == "" {
			delete(calls, call)
			call.Name = "a"
			calls[call] = n
		}
	}
	return calls
}

func TestProxy_refuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reason string
		status int
		is     func(error) bool
	}{
		"forbidden": {"writes can be denied", http.StatusForbidden, apierrors.IsForbidden},
		"conflict":  {"a lost race", http.StatusConflict, apierrors.IsConflict},
		"error":     {"a broken apiserver", http.StatusInternalServerError, apierrors.IsInternalError},
		"away":      {"an apiserver that starts", http.StatusServiceUnavailable, apierrors.IsServiceUnavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := newProxied(t)
			_, err := proxy.direct.CoreV1().ConfigMaps(proxy.namespace).Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{})
			require.NoError(t, err)
			remove := proxy.Inject(Fault{Match: Match{Verbs: Writes(), Resources: []string{"configmaps"}}, Status: test.status})
			maps := proxy.through.CoreV1().ConfigMaps(proxy.namespace)
			_, err = maps.Update(t.Context(), configMap("a", "2"), metav1.UpdateOptions{})
			require.True(t, test.is(err), "%s: %v", test.reason, err)
			_, err = maps.Get(t.Context(), "a", metav1.GetOptions{})
			require.NoError(t, err, "reads pass")
			require.Equal(t, 1, proxy.Refused(Match{}))
			remove()
			_, err = maps.Update(t.Context(), configMap("a", "2"), metav1.UpdateOptions{})
			require.NoError(t, err)
		})
	}
}

func TestProxy_too_many_requests_are_retried(t *testing.T) {
	t.Parallel()
	proxy := newProxied(t)
	proxy.Inject(Fault{Match: Match{Resources: []string{"configmaps"}}, Status: http.StatusTooManyRequests, Times: 1})
	_, err := proxy.through.CoreV1().ConfigMaps(proxy.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err, "client-go waits as told and tries again")
	require.Equal(t, 1, proxy.Refused(Match{Resources: []string{"configmaps"}}))
	require.Equal(t, 1, proxy.Count(Match{Resources: []string{"configmaps"}}))
}

func TestProxy_share_is_seeded(t *testing.T) {
	t.Parallel()
	plane := Shared(t)
	draw := func() []bool {
		proxy, err := NewProxy(ProxyConfig{Target: plane.RESTConfig(), Seed: 42})
		require.NoError(t, err)
		defer proxy.Close()
		proxy.Inject(Fault{Match: Match{Verbs: []string{"get"}}, Status: http.StatusInternalServerError, Share: 0.5})
		namespaces := clientOf(t, proxy.RESTConfig()).CoreV1().Namespaces()
		failed := make([]bool, 30)
		for i := range failed {
			_, err := namespaces.Get(t.Context(), "default", metav1.GetOptions{})
			failed[i] = err != nil
		}
		return failed
	}
	first := draw()
	require.Contains(t, first, true)
	require.Contains(t, first, false)
	require.Equal(t, first, draw())
}

func TestProxy_delays_and_empties_lists(t *testing.T) {
	t.Parallel()
	proxy := newProxied(t)
	_, err := proxy.direct.CoreV1().ConfigMaps(proxy.namespace).Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{})
	require.NoError(t, err)
	maps := proxy.through.CoreV1().ConfigMaps(proxy.namespace)

	proxy.Inject(Fault{Match: Match{Resources: []string{"configmaps"}}, EmptyList: true, Times: 1})
	list, err := maps.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, list.Items)
	require.NotEmpty(t, list.ResourceVersion, "as a store that lost its data would answer")
	list, err = maps.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1, "once only")

	_, err = proxy.direct.CoreV1().ConfigMaps(proxy.namespace).Create(t.Context(), configMap("b", "1"), metav1.CreateOptions{})
	require.NoError(t, err)
	proxy.Inject(Fault{Match: Match{Resources: []string{"configmaps"}}, Lose: []string{"a"}, Times: 1})
	list, err = maps.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, "b", list.Items[0].Name, "a is lost, and nothing else")

	const delay = 300 * time.Millisecond
	remove := proxy.Inject(Fault{Match: Match{Verbs: []string{"list"}}, Delay: delay})
	began := time.Now()
	_, err = maps.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), delay)
	short, cancel := context.WithTimeout(t.Context(), delay/10)
	defer cancel()
	_, err = maps.List(short, metav1.ListOptions{})
	require.ErrorIs(t, err, context.DeadlineExceeded, "a caller that gives up is let go")
	remove()
}

// Informers begin with a watch that lists; the proxy makes them LIST, so that
// faults of lists reach them.
func TestProxy_empties_lists_of_informers(t *testing.T) {
	t.Parallel()
	proxy := newProxied(t)
	_, err := proxy.direct.CoreV1().ConfigMaps(proxy.namespace).Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{})
	require.NoError(t, err)
	seen := func(c kubernetes.Interface) int {
		ctx, stop := context.WithCancel(t.Context())
		factory := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace(proxy.namespace))
		lister := factory.Core().V1().ConfigMaps().Lister()
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())
		found, err := lister.ConfigMaps(proxy.namespace).List(labels.Everything())
		require.NoError(t, err)
		stop()
		factory.Shutdown()
		return len(found)
	}
	require.Equal(t, 1, seen(proxy.through))
	remove := proxy.Inject(Fault{Match: Match{Resources: []string{"configmaps"}}, EmptyList: true})
	require.Equal(t, 0, seen(proxy.through))
	require.Equal(t, 1, seen(proxy.direct))
	remove()
	require.Equal(t, 1, seen(proxy.through))
}

func TestProxy_freezes_watches(t *testing.T) {
	t.Parallel()
	proxy := newProxied(t)
	open := func() watch.Interface {
		w, err := proxy.through.CoreV1().ConfigMaps(proxy.namespace).Watch(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		t.Cleanup(w.Stop)
		return w
	}
	create := func(name string) {
		_, err := proxy.direct.CoreV1().ConfigMaps(proxy.namespace).Create(t.Context(), configMap(name, "1"), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	next := func(w watch.Interface) string {
		select {
		case event := <-w.ResultChan():
			object, ok := event.Object.(*corev1.ConfigMap)
			require.True(t, ok, "%v", event)
			return object.Name
		case <-time.After(10 * time.Second):
			return "nothing"
		}
	}
	watching, other := open(), open()
	create("before")
	require.Equal(t, "before", next(watching))
	require.Equal(t, "before", next(other))

	thaw := proxy.Freeze(Match{Resources: []string{"configmaps"}})
	create("during")
	eventually(t, func() bool {
		proxy.mu.Lock()
		defer proxy.mu.Unlock()
		return proxy.freezes[0].held == 2
	}, "the event is there for both watches")
	require.Empty(t, watching.ResultChan(), "nothing passes a frozen proxy")
	require.Empty(t, other.ResultChan(), "nothing passes a frozen proxy")
	_, err := proxy.through.CoreV1().ConfigMaps(proxy.namespace).Get(t.Context(), "during", metav1.GetOptions{})
	require.NoError(t, err, "other requests pass")
	thaw()
	thaw() // harmless
	require.Equal(t, "during", next(watching), "nothing is lost, only late")
	require.Equal(t, "during", next(other))
}
