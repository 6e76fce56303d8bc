// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

// manyCRDs has several kinds and objects of them in one work, the objects first.
func manyCRDs(b *bench) {
	e := b.start()
	var manifests []string
	for i := range 5 {
		group := fmt.Sprintf("g%d.%s.example.com", i, b.ns)
		manifests = append([]string{gadget(group)}, append(manifests, gadgetCRD(group))...)
	}
	start := time.Now()
	b.apply(e, b.work("gadgets", manifests))
	b.t.Logf("five kinds and their objects took %s", time.Since(start))
}

// nestedWork applies a work on a spoke that is a hub as well, again and again.
func nestedWork(b *bench) {
	t := b.t
	nested := `
apiVersion: work.open-cluster-management.io/v1
kind: ManifestWork
metadata: {name: NAME, namespace: NS, creationTimestamp: null}
spec:
  workload:
    manifests:
    - {apiVersion: v1, kind: ConfigMap, metadata: {name: inner, namespace: default, creationTimestamp: null}, data: {k: v}}
    - {apiVersion: apps/v1, kind: Deployment, metadata: {name: inner, namespace: default}, spec: {replicas: 1, paused: false, template: {}}}
status: {}`
	works := schema.GroupVersionResource{Group: "work.open-cluster-management.io", Version: "v1", Resource: "manifestworks"}
	forced := b.strategy(works, "applied", workv1.UpdateStrategy{
		Type: workv1.UpdateStrategyTypeServerSideApply, ServerSideApply: &workv1.ServerSideApplyConfig{Force: true},
	})
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.Resync = time.Millisecond })
	manifests := []string{strings.ReplaceAll(nested, "NAME", "updated"), strings.ReplaceAll(nested, "NAME", "applied")}
	b.apply(e, b.work("outer", manifests, withConfig(forced)))
	proxy.ResetCounts()
	b.passes(e, "outer", 5)
	e.stop()
	e = b.start(behind)
	b.passes(e, "outer", 2)
	require.Zero(t, proxy.Count(writes()), "%v", proxy.Calls())
	for _, name := range []string{"updated", "applied"} {
		got := b.get(works, name)
		require.EqualValues(t, 1, got.GetGeneration())
		inner, _ := field(got, "spec", "workload", "manifests").([]any)
		require.Len(t, inner, 2)
	}
	b.remove(e, "outer")
}

// slowSpoke has an apiserver that takes its time: nothing is done twice for that.
func slowSpoke(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	proxy.Inject(env.Fault{Match: env.Match{Resources: []string{"configmaps"}, Verbs: []string{"get", "patch"}}, Delay: 300 * time.Millisecond})
	e := b.start(behind)
	b.put(b.work("web", many(4)))
	for range 5 {
		e.Enqueue("web")
	}
	b.waitReport("web", settled)
	for i := range 4 {
		require.Equal(t, 1, proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"configmaps"}, Name: fmt.Sprintf("c%d", i)}))
	}
}

// longError has a webhook that refuses with 100 KiB.
func longError(b *bench) {
	t := b.t
	webhook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{
			UID: review.Request.UID, Result: &metav1.Status{Message: "no " + strings.Repeat("and no äöü ", 10_000)},
		}
		_ = json.NewEncoder(w).Encode(review) // the apiserver reports what is missing
	}))
	t.Cleanup(webhook.Close)
	hooks := &unstructured.Unstructured{}
	text, err := yaml.YAMLToJSON([]byte(b.local(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: NS}, webhooks: [{` +
		`name: long.example.com, failurePolicy: Fail, sideEffects: None, admissionReviewVersions: [v1], ` +
		`namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}, clientConfig: {}, ` +
		`rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets]}]}]}`)))
	require.NoError(t, err)
	require.NoError(t, hooks.UnmarshalJSON(text))
	list, _ := field(hooks, "webhooks").([]any)
	list[0].(map[string]any)["clientConfig"] = map[string]any{
		"url":      webhook.URL,
		"caBundle": base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: webhook.Certificate().Raw})),
	}
	configurations := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
	_, err = b.admin.Resource(configurations).Create(t.Context(), hooks, metav1.CreateOptions{})
	require.NoError(t, err)
	e := b.start()
	secret := func(i int) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: s%d, namespace: NS}}", i)
	}
	n := 0
	b.eventually(func() error { // until the webhook is in force
		n++
		r := b.deliver(e, b.work("web", []string{secret(n), configMap("c", "k: v")}, generation(int64(n))))
		if cond(t, manifest(t, r, fmt.Sprintf("s%d", n)).Conditions, "Applied").Status == metav1.ConditionTrue {
			return errors.New("the webhook is not asked")
		}
		return nil
	})
	r := b.report("web")
	message := cond(t, manifest(t, r, fmt.Sprintf("s%d", n)).Conditions, "Applied").Message
	require.LessOrEqual(t, len(message), 1024)
	require.Contains(t, message, "no and no")
	require.True(t, strings.HasSuffix(message, "..."), message)
	require.Equal(t, metav1.ConditionTrue, cond(t, manifest(t, r, "c").Conditions, "Applied").Status)
}

// killer is a transport that stops working at the n-th write, before it is sent or before its answer arrives.
type killer struct {
	next   http.RoundTripper
	at     int64
	before bool
	writes atomic.Int64
	dead   chan struct{}
	once   sync.Once
}

func (k *killer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return k.next.RoundTrip(r)
	}
	n := k.writes.Add(1)
	if n < k.at {
		return k.next.RoundTrip(r)
	}
	if n == k.at && !k.before {
		if answer, err := k.next.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	}
	k.once.Do(func() { close(k.dead) })
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// killedAtEachWrite ends executors in the middle of a write, each time one further on, while a work comes, changes and goes.
func killedAtEachWrite(b *bench) {
	t := b.t
	for i := range 8 {
		name := fmt.Sprintf("w%d", i)
		object := func(n int) string { return fmt.Sprintf("%s-c%d", name, n) }
		first := []string{configMap(object(0), "k: v"), configMap(object(1), "k: v"), configMap(object(2), "k: v")}
		second := []string{configMap(object(1), "k: w"), configMap(object(3), "k: w")}
		killed := func(desired work.Desired) {
			k := &killer{at: int64(i + 1), before: i%2 == 0, dead: make(chan struct{})}
			e := b.start(func(c *work.Config) {
				c.REST = rest.CopyConfig(b.config)
				c.REST.Wrap(func(next http.RoundTripper) http.RoundTripper { k.next = next; return k })
			})
			b.put(desired)
			e.Enqueue(name)
			b.eventually(func() error {
				r := b.report(name)
				select {
				case <-k.dead:
					return nil
				default:
				}
				if r.UID != "" && r.ObservedGeneration == desired.Work.Generation && (r.Finalized || desired.Delete == work.DeleteNone && settled(r)) {
					return nil
				}
				return errors.New("neither killed nor done")
			})
			e.stop()
		}
		killed(b.work(name, first))
		killed(b.work(name, second, generation(2)))
		e := b.start()
		b.waitReport(name, func(r work.Report) bool { return r.ObservedGeneration == 2 && settled(r) })
		b.eventually(func() error {
			want := []string{"configmaps/" + object(1), "configmaps/" + object(3)}
			if got := b.inventory(name); !slices.Equal(got, want) {
				return fmt.Errorf("the inventory is %v, want %v", got, want)
			}
			return nil
		})
		for n, want := range []bool{false, true, false, true} {
			require.Equal(t, want, b.exists(configMaps, object(n)), "object %d after a kill at write %d", n, i+1)
		}
		e.stop()
		desired, _ := b.Get(name)
		desired.Delete = work.DeleteRequested
		killed(desired)
		e = b.start()
		b.waitReport(name, func(r work.Report) bool { return r.Finalized })
		require.False(t, b.exists(configMaps, object(1)), "an orphan")
		require.False(t, b.exists(configMaps, object(3)), "an orphan")
		require.False(t, b.exists(inventories, b.inventoryName(name)))
		e.stop()
		b.drop(name)
	}
}

// noWrites has a spoke that takes no writes, as one that is read-only, whose etcd is full, or that has used up a quota.
func noWrites(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	b.apply(e, b.work("web", []string{configMap("c", "k: v0"), configMap("gone-1", "k: v")}))
	heal := proxy.Inject(env.Fault{Match: writes(), Status: 500})
	b.delete(configMaps, "c")
	b.waitApplied("web", "c", "Failed to apply manifest") // it is said though nothing can be written down about it
	heal()
	b.waitReport("web", settled)
	for i, status := range []int{403, 500} {
		heal := proxy.Inject(env.Fault{Match: writes(), Status: status})
		gone, next := fmt.Sprintf("gone-%d", i+1), fmt.Sprintf("gone-%d", i+2)
		value := fmt.Sprintf("v%d", i+1)
		b.put(b.work("web", []string{configMap("c", "k: "+value), configMap(next, "k: v")}, generation(int64(i+2))))
		e.Enqueue("web")
		b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == int64(i+2) })
		require.Equal(t, fmt.Sprintf("v%d", i), field(b.get(configMaps, "c"), "data", "k"))
		require.Contains(t, b.applied("web", "c"), "False AppliedManifestFailed Failed to apply manifest: ", "status %d", status)
		require.True(t, b.exists(configMaps, gone), "what could not be done is not forgotten")
		heal()
		b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == int64(i+2) && settled(r) })
		b.waitField(configMaps, "c", value, "data", "k")
		b.waitGone(configMaps, gone)
	}
}
