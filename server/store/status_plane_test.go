// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
)

// fence is a Fence that is told what to say.
type fence struct {
	checks  atomic.Int64
	fenced  atomic.Bool
	dropped atomic.Bool
}

func (f *fence) Held(Grant) bool { return !f.dropped.Load() }

func (f *fence) Check(context.Context, Grant) error {
	f.checks.Add(1)
	if f.fenced.Load() {
		return ErrFenced
	}
	return nil
}

// desk is a cluster with an index and a writer behind a proxy that counts.
type desk struct {
	user
	proxy *env.Proxy
	index *Index
	w     *StatusWriter
	fence *fence
	grant Grant
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	plane := env.Shared(t)
	d := &desk{user: newUser(t, plane.RESTConfig()), proxy: env.StartProxy(t, plane.RESTConfig()), fence: &fence{}}
	d.index = startIndex(t, plane.RESTConfig())
	d.w = newWriter(t, d.proxy.RESTConfig(), d.index, d.fence)
	d.grant = Grant{scope: scopeOf(d.cluster, "uid"), sessionID: "s", epoch: 1, number: 1}
	return d
}

func newWriter(t *testing.T, cfg *rest.Config, x *Index, f Fence) *StatusWriter {
	t.Helper()
	w, err := NewStatusWriter(StatusConfig{Config: cfg, Index: x, Fence: f})
	require.NoError(t, err)
	runs(t, w.Run)
	return w
}

// put reports a status and waits for the answer.
func (d *desk) put(item Status) Result {
	d.t.Helper()
	return d.wait(func(done func(Result)) { d.w.Put(d.grant, item, done) })
}

func (d *desk) wait(what func(done func(Result))) Result {
	d.t.Helper()
	results := make(chan Result, 10)
	what(func(r Result) { results <- r })
	select {
	case r := <-results:
		return r
	case <-time.After(time.Minute):
		d.t.Fatal("done was not called")
		return Result{}
	}
}

// work makes a work that the index knows, and the report that it is applied.
func (d *desk) work(name string) (Work, Status) {
	d.t.Helper()
	w := reaches(d.t, d.index, d.create(name))
	return w, Status{Key: key(name), UID: w.UID, ObservedGeneration: w.Generation, ObservedDigest: w.Digest, JSON: []byte(appliedStatus)}
}

// writes is how many writes the apiserver has seen.
func (d *desk) writes() int {
	return d.proxy.Count(env.Match{Verbs: env.Writes(), Namespace: d.cluster})
}

func (d *desk) reads() int {
	return d.proxy.Count(env.Match{Verbs: []string{"get"}, Namespace: d.cluster})
}

func TestStatus_is_persisted_and_a_no_op_costs_nothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	require.Equal(t, Result{Outcome: Persisted}, d.put(item))
	require.JSONEq(t, appliedStatus, d.status("web"))
	require.Equal(t, 1, d.writes())
	require.Zero(t, d.reads(), "nothing is read in order to write")

	stored := d.get("web")
	require.Equal(t, Result{Outcome: Persisted}, d.put(item), "the same again")
	var indented map[string]any
	require.NoError(t, json.Unmarshal(item.JSON, &indented))
	item.JSON, _ = json.MarshalIndent(indented, "", "  ")
	require.Equal(t, Result{Outcome: Persisted}, d.put(item), "the same, written in another way")
	require.Equal(t, stored.GetResourceVersion(), d.get("web").GetResourceVersion())
	require.Equal(t, 1, d.writes())
	for _, field := range stored.GetManagedFields() {
		if field.Subresource == "status" {
			require.Equal(t, "fairlead-agent", field.Manager)
		}
	}
}

// What an agent computes over the status it sends and what the hub computes over
// the status it has read back must be the same digest, or every reconnect sends
// every status again.
func TestStatus_digest_survives_a_real_apiserver(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	feedback := func(value string) string {
		return `{"resourceStatus":{"manifests":[{"conditions":[],"resourceMeta":{"ordinal":0},"statusFeedback":{"values":[{"fieldValue":` + value + `,"name":"v"}]}}]}}`
	}
	tests := map[string]string{
		"empty":             `{}`,
		"usual":             appliedStatus,
		"html":              feedback(`{"string":"<a href=\"x\">&amp;</a>","type":"String"}`),
		"unicode":           feedback(`{"string":"ü \\u65e5\\u672c \u2028 \u2029 \u0000 \u001f \ud83d\ude00 \b\f","type":"String"}`),
		"escapes":           feedback(`{"string":"a\\b\"c\/d\n\t\r","type":"String"}`),
		"big integers":      feedback(`{"integer":9223372036854775807,"type":"Integer"}`),
		"negative integers": feedback(`{"integer":-42,"type":"Integer"}`),
		"booleans":          feedback(`{"boolean":false,"type":"Boolean"}`),
		"raw JSON":          feedback(`{"jsonRaw":"{\"a\":[1,2.50,\"<x>\"]}","type":"JsonRaw"}`),
		"empty lists":       `{"conditions":[],"resourceStatus":{"manifests":[]}}`,
		"empty objects":     `{"resourceStatus":{}}`,
		"unsorted":          `{"resourceStatus":{"manifests":[]},"conditions":[{"type":"Applied","status":"True","reason":"R","message":"","lastTransitionTime":"2026-01-02T03:04:06Z"}]}`,
	}
	for name, status := range tests {
		t.Run(name, func(t *testing.T) {
			work := strings.ReplaceAll(name, " ", "-")
			work = strings.ToLower(work)
			_, item := d.work(work)
			item.JSON = []byte(status)
			require.Equal(t, Result{Outcome: Persisted}, d.put(item))
			want, err := wire.StatusDigest([]byte(status))
			require.NoError(t, err)
			// Read back from the apiserver, not from the index's own answer.
			s, _, err := d.w.works.read(t.Context(), d.cluster, work)
			require.NoError(t, err)
			require.Equal(t, want, s.Status, d.status(work))
		})
	}
}

func TestStatus_fields_that_are_gone_go(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	require.Equal(t, Persisted, d.put(item).Outcome)
	item.JSON = []byte(`{"conditions":[{"type":"Applied","status":"False","reason":"R","message":"m","lastTransitionTime":"2026-01-02T03:04:06Z"}]}`)
	require.Equal(t, Persisted, d.put(item).Outcome)
	require.JSONEq(t, string(item.JSON), d.status("web"), "no resourceStatus is left over")
	item.JSON = []byte(`{}`)
	require.Equal(t, Persisted, d.put(item).Outcome)
	require.JSONEq(t, `{}`, d.status("web"))
	require.Equal(t, 3, d.writes())
}

func TestMergePatch(t *testing.T) {
	for name, test := range map[string]struct{ stored, wanted, patch string }{
		"unknown field goes":        {`{"new":{"x":1},"conditions":[]}`, `{"conditions":[]}`, `{"conditions":[],"new":null}`},
		"unknown nested field goes": {`{"resourceStatus":{"new":1,"manifests":[1]}}`, `{"resourceStatus":{"manifests":[2]}}`, `{"resourceStatus":{"manifests":[2],"new":null}}`},
		"type changes":              {`{"a":{"x":1}}`, `{"a":[1]}`, `{"a":[1]}`},
		"nothing stored":            {`{}`, `{"a":1}`, `{"a":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			stored, err := decodeObject([]byte(test.stored))
			require.NoError(t, err)
			wanted, err := decodeObject([]byte(test.wanted))
			require.NoError(t, err)
			got, err := json.Marshal(mergePatch(stored, wanted))
			require.NoError(t, err)
			require.JSONEq(t, test.patch, string(got))
			require.Equal(t, strings.Contains(test.patch, "null"), leavesOver(stored, wanted))
		})
	}
}

func TestStatus_MW76_of_a_recreated_work(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	old, item := d.work("web")
	d.delete("web")
	fresh := d.create("web")
	require.NotEqual(t, old.UID, string(fresh.GetUID()))
	require.Equal(t, StaleUID, d.put(item).Outcome, "whether the index knows it yet or not")
	reaches(t, d.index, fresh)
	tried := d.writes() // of the object that was
	require.Equal(t, StaleUID, d.put(item).Outcome)
	require.Equal(t, "null", d.status("web"))
	require.Equal(t, tried, d.writes())

	item.UID = string(fresh.GetUID())
	require.Equal(t, Persisted, d.put(item).Outcome)
	d.delete("web")
	eventually(t, "it is gone", func() bool { _, ok := d.index.View(d.cluster).Get(key("web")); return !ok })
	item.JSON = []byte(`{}`)
	require.Equal(t, StaleUID, d.put(item).Outcome)
}

// An index that lags must not let an old status through either: the apiserver
// has the last word on UID and resourceVersion.
func TestStatus_T9_with_an_index_that_has_stopped(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	frozen, stop := frozenIndex(t)
	reaches(t, frozen, d.get("web"))
	stop()
	w := newWriter(t, d.proxy.RESTConfig(), frozen, d.fence)
	d.delete("web")
	fresh := d.create("web")
	r := d.wait(func(done func(Result)) { w.Put(d.grant, item, done) })
	require.Equal(t, StaleUID, r.Outcome)
	require.Equal(t, "null", d.status("web"))
	item.UID = string(fresh.GetUID())
	r = d.wait(func(done func(Result)) { w.Put(d.grant, item, done) })
	require.Equal(t, Persisted, r.Outcome, "the agent knows the new object before this index does")
	require.JSONEq(t, appliedStatus, d.status("web"))
}

func frozenIndex(t *testing.T) (x *Index, stop func()) {
	t.Helper()
	x, err := NewIndex(IndexConfig{Config: env.Shared(t).RESTConfig()})
	require.NoError(t, err)
	stop = runs(t, x.Run)
	synced(t, x)
	return x, stop
}

func TestStatus_of_a_generation_that_the_hub_has_not(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	item.ObservedGeneration = 7
	first := d.put(item)
	require.Equal(t, Retry, first.Outcome, "the index may be behind")
	require.Positive(t, first.RetryAfter)
	require.Equal(t, Invalid, d.put(item).Outcome)
	require.Equal(t, 2, d.reads(), "each after a quorum read")
	require.Zero(t, d.writes())

	frozen, stop := frozenIndex(t)
	stop()
	w := newWriter(t, d.proxy.RESTConfig(), frozen, d.fence)
	d.patch("web", `{"spec":{"workload":{"manifests":[]}}}`)
	item.ObservedGeneration = 2
	r := d.wait(func(done func(Result)) { w.Put(d.grant, item, done) })
	require.Equal(t, Persisted, r.Outcome, "the agent is ahead of this index, not of the hub")
}

// Statuses of older generations, in an order that a reconnect can bring about: each is stored as what it is, and the last wins.
func TestT35_statuses_of_older_generations(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	for generation := 2; generation <= 7; generation++ {
		d.patch("web", fmt.Sprintf(`{"spec":{"executor":{"subject":{"type":"ServiceAccount","serviceAccount":{"namespace":"default","name":"a%d"}}}}}`, generation))
	}
	require.EqualValues(t, 7, d.get("web").GetGeneration())
	for i, generation := range []int64{5, 7, 6, 7} {
		if i == 1 { // a reconnect
			d.grant = Grant{scope: d.grant.scope, sessionID: "again", epoch: 2, number: 2}
		}
		item.ObservedGeneration = generation
		item.JSON = []byte(strings.ReplaceAll(appliedStatus, `"observedGeneration":1`, fmt.Sprintf(`"observedGeneration":%d`, generation)))
		require.Equal(t, Persisted, d.put(item).Outcome)
		require.JSONEq(t, string(item.JSON), d.status("web"), "Applied is said of the generation that was applied")
	}
}

func TestStatus_that_will_never_be_taken(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	for name, test := range map[string]struct {
		json, reason string
	}{
		"too large":    {`{"a":"` + strings.Repeat("x", wire.MaxStatus) + `"}`, reason.StatusTooLarge},
		"no JSON":      {`{"conditions":[`, reason.Undecodable},
		"no object":    {`[]`, reason.Undecodable},
		"two objects":  {`{}{}`, reason.Undecodable},
		"wrong fields": {`{"conditions":[{"type":"Applied"}]}`, reason.InvalidArgument},
		"injection":    {`{}},"metadata":{"finalizers":["evil.example.com/x"]`, reason.Undecodable},
	} {
		t.Run(name, func(t *testing.T) {
			item := item
			item.JSON = []byte(test.json)
			r := d.put(item)
			require.Equal(t, Invalid, r.Outcome)
			require.Equal(t, test.reason, r.Reason)
			require.LessOrEqual(t, len(r.Message), wire.MaxErrorMessage)
		})
	}
	other := item
	other.Key.Kind = wire.KindAddon
	require.Equal(t, Invalid, d.put(other).Outcome)
	nobody := d.wait(func(done func(Result)) { d.w.Put(Grant{}, item, done) })
	require.Equal(t, Invalid, nobody.Outcome, "the zero Grant acts for no cluster")
	require.Empty(t, d.get("web").GetFinalizers())
	require.Equal(t, "null", d.status("web"))
}

// T49: no name that an agent makes up leads out of its own namespace.
func TestStatus_T49_names_lead_nowhere_else(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	victim, item := d.work("secret")
	own := newUser(t, env.Shared(t).RESTConfig())
	thief := Grant{scope: scopeOf(own.cluster, "uid"), sessionID: "s", epoch: 1, number: 2, complete: 1 << 60}
	d.proxy.ResetCounts()
	x, err := NewIndex(IndexConfig{Config: d.proxy.RESTConfig()})
	require.NoError(t, err)
	for _, name := range []string{
		"", ".", "..", "../secret", "../../" + d.cluster + "/manifestworks/secret", "..%2f..%2f" + d.cluster + "%2fmanifestworks%2fsecret",
		"/apis/work.open-cluster-management.io/v1/namespaces/" + d.cluster + "/manifestworks/secret", "secret/status", "x/../../../" + d.cluster + "/manifestworks/secret",
	} {
		item.Key = key(name)
		r := d.wait(func(done func(Result)) { d.w.Put(thief, item, done) })
		require.Equal(t, Invalid, r.Outcome, name)
		item.Finalized = true
		r = d.wait(func(done func(Result)) { d.w.Put(thief, item, done) })
		require.Equal(t, Invalid, r.Outcome, name)
		item.Finalized = false
		r = d.wait(func(done func(Result)) { d.w.EnsureFinalizer(thief, key(name), victim.UID, done) })
		require.Equal(t, Invalid, r.Outcome, name)
		d.w.SetUndelivered(thief, key(name), victim.UID, "REASON", "message")
		_, err := x.QuorumGet(t.Context(), own.cluster, name)
		require.Error(t, err, name)
	}
	item.Key = key("secret")
	r := d.wait(func(done func(Result)) { d.w.Put(thief, item, done) })
	require.Equal(t, StaleUID, r.Outcome, "the UID of another cluster's work says nothing")
	require.Equal(t, "null", d.status("secret"))
	require.Zero(t, d.proxy.Count(env.Match{Namespace: d.cluster}), "nobody asked for anything of the other cluster")
	for call := range d.proxy.Calls() {
		require.Equal(t, own.cluster, call.Namespace)
	}
}

func TestStatus_T34_conflicts_and_refusals(t *testing.T) {
	t.Parallel()
	patches := env.Match{Verbs: []string{"patch"}, Resources: []string{"manifestworks/status"}}
	fault := func(d *desk, status, times int) (remove func()) {
		return d.proxy.Inject(env.Fault{Match: patches, Status: status, Times: times})
	}
	t.Run("409 is read again", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		_, item := d.work("web")
		fault(d, 409, 3)
		require.Equal(t, Persisted, d.put(item).Outcome)
		require.JSONEq(t, appliedStatus, d.status("web"))
		require.EqualValues(t, 3+1, d.fence.checks.Load(), "after each conflict, and once because another session may have written")
		require.Equal(t, 3, d.reads())
	})
	t.Run("409 for ever", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		_, item := d.work("web")
		fault(d, 409, 1000)
		r := d.put(item)
		require.Equal(t, Retry, r.Outcome)
		require.Equal(t, writeTries, d.proxy.Refused(patches))
		require.Equal(t, "null", d.status("web"))
	})
	t.Run("409 and another owner", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		_, item := d.work("web")
		d.grant.complete = 1 << 60
		fault(d, 409, 1)
		d.fence.fenced.Store(true)
		require.Equal(t, Fenced, d.put(item).Outcome)
		require.Equal(t, "null", d.status("web"))
	})
	for _, code := range []int{429, 500, 503, 504} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			_, item := d.work("web")
			remove := fault(d, code, 1000)
			r := d.put(item)
			require.Equal(t, Retry, r.Outcome)
			require.Positive(t, r.RetryAfter)
			require.Equal(t, "null", d.status("web"), "never PERSISTED before 2xx")
			require.True(t, d.w.Pressure())
			require.Less(t, d.w.Stats().Limit, paceStart)
			remove()
			require.Equal(t, Persisted, d.put(item).Outcome)
		})
	}
	t.Run("403", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		_, item := d.work("web")
		fault(d, 403, 1)
		r := d.put(item)
		require.Equal(t, Retry, r.Outcome)
		require.Equal(t, retryLong, r.RetryAfter)
	})
}

func TestStatus_asks_who_owns_the_cluster(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	other := func(field string) []byte { return []byte(strings.Replace(appliedStatus, "complete", field, 1)) }

	d.fence.dropped.Store(true)
	require.Equal(t, Fenced, d.put(item).Outcome, "known to be lost")
	d.fence.dropped.Store(false)

	_, _, err := d.index.SessionView(d.grant).Content(key("web"))
	require.NoError(t, err)
	require.Equal(t, Persisted, d.put(item).Outcome)
	require.Zero(t, d.fence.checks.Load(), "this session has read that very state of the work")
	item.JSON = other("second")
	require.Equal(t, Persisted, d.put(item).Outcome)
	require.Zero(t, d.fence.checks.Load(), "and has written that one")

	reaches(t, d.index, d.patch("web", `{"metadata":{"annotations":{"somebody":"else"}}}`))
	item.JSON = other("third")
	require.Equal(t, Persisted, d.put(item).Outcome)
	require.EqualValues(t, 1, d.fence.checks.Load(), "somebody else has written: it may have been a newer session")

	reaches(t, d.index, d.patch("web", `{"metadata":{"annotations":{"somebody":"again"}}}`))
	d.fence.fenced.Store(true)
	item.JSON = other("fourth")
	require.Equal(t, Fenced, d.put(item).Outcome)
	require.Contains(t, d.status("web"), "third")
}

func TestStatus_only_the_newest_of_many_is_written(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, item := d.work("web")
	hold := d.proxy.Inject(env.Fault{Match: env.Match{Verbs: []string{"patch"}}, Delay: 200 * time.Millisecond, Times: 1})
	defer hold()
	var mu sync.Mutex
	counts := map[Outcome]int{}
	var wait sync.WaitGroup
	for i := range 100 {
		wait.Add(1)
		item.JSON = []byte(strings.Replace(appliedStatus, "complete", fmt.Sprintf("number %d", i), 1))
		d.w.Put(d.grant, item, func(r Result) {
			mu.Lock()
			counts[r.Outcome]++
			mu.Unlock()
			wait.Done()
		})
	}
	wait.Wait()
	require.Equal(t, 100, counts[Persisted]+counts[Superseded])
	require.LessOrEqual(t, d.writes(), 3)
	require.Contains(t, d.status("web"), "number 99")
}

func TestFinalizer(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w, item := d.work("web")
	var m marks
	defer d.index.Register(d.cluster, m.mark)()
	ensure := func() Result {
		return d.wait(func(done func(Result)) { d.w.EnsureFinalizer(d.grant, key("web"), w.UID, done) })
	}
	t.Run("is added to the others and delivers nothing", func(t *testing.T) {
		reaches(t, d.index, d.patch("web", `{"metadata":{"finalizers":["example.com/theirs"]}}`))
		m.await(t)
		require.Equal(t, Persisted, ensure().Outcome)
		require.ElementsMatch(t, []string{"example.com/theirs", identity.ManifestWorkFinalizer}, d.get("web").GetFinalizers())
		require.Equal(t, 1, d.writes())
		got, _ := d.index.View(d.cluster).Get(key("web"))
		require.True(t, got.Finalizer, "known at once")
		require.Equal(t, Persisted, ensure().Outcome)
		require.Equal(t, 1, d.writes(), "nothing to write")
		reaches(t, d.index, d.get("web"))
		require.Empty(t, m.take())
	})
	t.Run("stays while nobody asked for a delete", func(t *testing.T) {
		final := item
		final.Finalized = true
		require.Equal(t, Superseded, d.put(final).Outcome)
		require.Contains(t, d.get("web").GetFinalizers(), identity.ManifestWorkFinalizer)
	})
	t.Run("goes when the spoke is clean", func(t *testing.T) {
		d.delete("web")
		final := Status{Key: key("web"), UID: w.UID, Finalized: true}
		require.Equal(t, Persisted, d.put(final).Outcome)
		require.Equal(t, []string{"example.com/theirs"}, d.get("web").GetFinalizers())
		require.Equal(t, Persisted, d.put(final).Outcome)
		reaches(t, d.index, d.get("web"))
		require.Equal(t, Superseded, ensure().Outcome, "a deleting work gets none")
		d.patch("web", `{"metadata":{"finalizers":null}}`)
		fresh := d.create("web")
		require.Equal(t, Persisted, d.put(final).Outcome, "that object is gone (B6)")
		require.Equal(t, StaleUID, ensure().Outcome)
		require.Empty(t, d.get("web").GetFinalizers(), "the new one is not touched")
		require.Equal(t, fresh.GetUID(), d.get("web").GetUID())
	})
}

func TestFinalized_lets_the_object_go(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w, _ := d.work("web")
	r := d.wait(func(done func(Result)) { d.w.EnsureFinalizer(d.grant, key("web"), w.UID, done) })
	require.Equal(t, Persisted, r.Outcome)
	d.delete("web")
	require.Equal(t, Persisted, d.put(Status{Key: key("web"), UID: w.UID, Finalized: true}).Outcome)
	live, err := d.index.QuorumGet(t.Context(), d.cluster, "web")
	require.NoError(t, err)
	require.False(t, live.Found)
	eventually(t, "the index follows", func() bool { _, ok := d.index.View(d.cluster).Get(key("web")); return !ok })
}

func TestDelivered(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w, item := d.work("web")
	settled := func() { // the queue is empty, and the index is up to date
		eventually(t, "all is written", func() bool { s := d.w.Stats(); return s.Waiting+s.Writing == 0 })
		reaches(t, d.index, d.get("web"))
	}
	require.Equal(t, Persisted, d.put(item).Outcome)
	d.w.SetUndelivered(d.grant, key("web"), w.UID, reason.ObjectTooLarge, "it has too many bytes")
	settled()
	require.Equal(t, []string{"Applied", "Available", "Delivered"}, d.conditionTypes("web"))
	require.Contains(t, d.status("web"), `"resourceStatus"`, "the agent's part stays")
	writes := d.writes()
	d.w.SetUndelivered(d.grant, key("web"), w.UID, reason.ObjectTooLarge, "it has too many bytes")
	settled()
	require.Equal(t, writes, d.writes(), "the same again is not written")

	stale := item
	stale.ObservedDigest, stale.JSON = wire.Digest{1}, []byte(strings.Replace(appliedStatus, "complete", "older", 1))
	require.Equal(t, Persisted, d.put(stale).Outcome)
	require.Contains(t, d.conditionTypes("web"), "Delivered", "a status for what was delivered before clears nothing")
	stale.ObservedDigest = item.ObservedDigest
	require.Equal(t, Persisted, d.put(stale).Outcome)
	require.NotContains(t, d.conditionTypes("web"), "Delivered", "even one that is otherwise stored as it is")
	require.Contains(t, d.status("web"), "older")

	d.w.SetUndelivered(d.grant, key("web"), w.UID, "REJECTED", "no")
	settled()
	require.Contains(t, d.conditionTypes("web"), "Delivered")
	d.w.ClearUndelivered(d.grant, key("web"), w.UID)
	settled()
	require.Equal(t, []string{"Applied", "Available"}, d.conditionTypes("web"))
	writes = d.writes()
	d.w.ClearUndelivered(d.grant, key("web"), w.UID)
	settled()
	require.Equal(t, writes, d.writes())
}
