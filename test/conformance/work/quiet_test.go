// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

// behind puts a proxy between the executor and the apiserver, which counts what the executor asks and can make it fail.
func (b *bench) behind() (*env.Proxy, func(*work.Config)) {
	b.t.Helper()
	proxy := env.StartProxy(b.t, b.config)
	config := proxy.RESTConfig()
	config.QPS = -1
	return proxy, func(c *work.Config) { c.REST = config }
}

func writes() env.Match { return env.Match{Verbs: env.Writes()} }
func reads() env.Match  { return env.Match{Verbs: []string{"get"}} }

// passes makes the executor look at a work n times and waits for the reports, which it is made to repeat.
func (b *bench) passes(e *executor, name string, n int) {
	b.t.Helper()
	for range n {
		before := b.reportCount(name)
		e.ResendAll()
		b.eventually(func() error {
			if b.reportCount(name) == before {
				return fmt.Errorf("no report on %s", name)
			}
			return nil
		})
	}
}

// untilNothingIsRead makes passes over a work until two in a row read nothing: the watches have shown what the passes left. The
// first may have read all before it was counted.
func (b *bench) untilNothingIsRead(e *executor, proxy *env.Proxy, name string) {
	b.t.Helper()
	b.eventually(func() error {
		proxy.ResetCounts()
		b.passes(e, name, 2)
		if n := proxy.Count(reads()); n > 0 {
			return fmt.Errorf("%d reads in two passes over %s", n, name)
		}
		return nil
	})
}

func TestQuiet(t *testing.T) {
	t.Run("MW-25_no_write_without_change", func(t *testing.T) { noWriteWithoutChange(newBench(t)) })
	t.Run("MW-25_no_read_without_change", func(t *testing.T) { noReadWithoutChange(newBench(t)) })
	t.Run("MW-78_restart_writes_nothing", func(t *testing.T) { restartWritesNothing(newBench(t)) })
	t.Run("what_a_webhook_keeps_is_not_fought_over", func(t *testing.T) { settledContent(newBench(t)) })
	t.Run("a_fight_is_slow", func(t *testing.T) { fightIsSlow(newBench(t)) })
}

func noWriteWithoutChange(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.Resync = time.Millisecond }) // every pass reads everything
	b.apply(e, b.work("zoo", zoo()))
	b.passes(e, "zoo", 2)
	all, inventory := proxy.Count(writes()), env.Match{Resources: []string{"appliedmanifestworks", "appliedmanifestworks/status"}, Verbs: env.Writes()}
	require.Equal(t, len(zoo()), all-proxy.Count(inventory), "each object is written once: %v", proxy.Calls())
	proxy.ResetCounts()
	b.passes(e, "zoo", 3)
	require.Zero(t, proxy.Count(writes()), "%v", proxy.Calls())
	require.GreaterOrEqual(t, proxy.Count(reads()), 2*len(zoo()))

	count := b.reportCount("zoo")
	proxy.ResetCounts()
	e.Enqueue("zoo")
	b.eventually(func() error {
		if n := proxy.Count(reads()); n < len(zoo()) {
			return fmt.Errorf("%d reads so far", n)
		}
		return nil
	})
	e.stop()
	require.Equal(t, count, b.reportCount("zoo"), "a status is reported again only when that is asked for")
}

func noReadWithoutChange(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	b.apply(e, b.work("zoo", zoo()))
	b.untilNothingIsRead(e, proxy, "zoo")
	b.edit(configMaps, "plain", "{metadata: {labels: {theirs: x}}}")
	b.eventually(func() error {
		if n := proxy.Count(reads()); n != 1 {
			return fmt.Errorf("%d reads for a change of one object, want 1", n)
		}
		return nil
	})
	require.Zero(t, proxy.Count(writes()))
}

func restartWritesNothing(b *bench) {
	t := b.t
	clock := newClock()
	clocked := func(c *work.Config) { c.Clock = clock }
	e := b.start(clocked)
	before := b.apply(e, b.work("zoo", zoo()))
	b.passes(e, "zoo", 2)
	e.stop()
	clock.advance(time.Hour)
	version := b.get(inventories, b.inventoryName("zoo")).GetResourceVersion()

	proxy, behind := b.behind()
	count := b.reportCount("zoo")
	b.start(behind, clocked)
	after := b.waitReport("zoo", func(work.Report) bool { return b.reportCount("zoo") > count })
	require.Equal(t, before, after, "the very same status, lastTransitionTimes too (MW-17)")
	require.Zero(t, proxy.Count(writes()), "%v", proxy.Calls())
	require.Equal(t, version, b.get(inventories, b.inventoryName("zoo")).GetResourceVersion())
}

// settledContent has a policy in the way that changes what is applied, as mutating webhooks do.
func settledContent(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.Resync = time.Millisecond })
	b.create("", `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NS}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}
  matchConditions: [{name: here, expression: "object.metadata.namespace == 'NS'"}]
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{data: {"k": "theirs"}}'}}]`)
	b.create("", `{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, metadata: {name: NS}, spec: {policyName: NS}}`)
	b.eventually(func() error { // until the policy is in force
		b.create("", "{apiVersion: v1, kind: ConfigMap, metadata: {generateName: probe-, namespace: NS}}")
		list, err := b.in(configMaps).List(t.Context(), listOptions)
		require.NoError(t, err)
		for i := range list.Items { // their names are random, so the newest may be any of them
			if field(&list.Items[i], "data", "k") == "theirs" {
				return nil
			}
		}
		return errors.New("the policy is not in force")
	})
	b.apply(e, b.work("web", []string{configMap("c", "k: ours")}))
	b.passes(e, "web", 2)
	proxy.ResetCounts()
	b.passes(e, "web", 5)
	require.Zero(t, proxy.Count(writes()), "%v", proxy.Calls())
	require.Equal(t, "theirs", field(b.get(configMaps, "c"), "data", "k"))

	b.apply(e, b.work("web", []string{configMap("c", "k: ours, new: x")}, generation(2)))
	require.Equal(t, "x", field(b.get(configMaps, "c"), "data", "new"), "an edit is written all the same")
}

// fightIsSlow lets two works want one object differently.
func fightIsSlow(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	b.apply(e, b.work("one", []string{configMap("c", "k: one")}))
	b.apply(e, b.work("two", []string{configMap("c", "k: two")}))
	last := 0
	b.eventually(func() error {
		b.passes(e, "one", 1)
		b.passes(e, "two", 1)
		n := proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"configmaps"}})
		if n < 10 || n > last {
			last = n
			return fmt.Errorf("%d writes so far, and they do not stop", n)
		}
		return nil
	})
	require.LessOrEqual(t, last, 60, "ten corrections each, and conflicts between them")
	// Who loses says so; who wins does not know.
	b.eventually(func() error {
		for one, other := range map[string]string{"one": "two", "two": "one"} {
			applied := meta.FindStatusCondition(b.report(one).Status.Conditions, workv1.WorkApplied)
			if applied != nil && applied.Status == metav1.ConditionTrue &&
				strings.Contains(applied.Message, "but of ConfigMap "+b.ns+"/c data.k is set otherwise again and again by work "+other) {
				return nil
			}
		}
		return fmt.Errorf("neither says so: %+v, %+v", b.report("one").Status.Conditions, b.report("two").Status.Conditions)
	})
}
