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

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/env"
)

// TestMany counts what much on one spoke costs. How long it takes is measured elsewhere.
func TestMany(t *testing.T) {
	t.Run("many_works", func(t *testing.T) { manyWorks(newBench(t)) })
	t.Run("one_work_of_many_manifests", func(t *testing.T) { manyManifests(newBench(t)) })
	t.Run("one_manifest_near_the_limit", func(t *testing.T) { bigManifest(newBench(t)) })
	t.Run("MW-10_kind_comes_by_another_work", func(t *testing.T) { kindComesByAnotherWork(newBench(t)) })
}

// crowd is many works on one spoke.
type crowd struct {
	*bench

	e     *executor
	proxy *env.Proxy
	all   []string
}

// newCrowd delivers works and waits until each is applied.

func newCrowd(b *bench, works ...work.Desired) *crowd {
	b.t.Helper()
	proxy, behind := b.behind()
	c := &crowd{bench: b, e: b.start(behind), proxy: proxy}
	for _, desired := range works {
		c.all = append(c.all, desired.Work.Name)
		b.put(desired)
	}
	for _, name := range c.all {
		c.e.Enqueue(name)
	}
	for _, name := range c.all {
		b.waitReport(name, settled)
	}
	return c
}

// quiet makes passes over all works until one costs no request at all.
func (c *crowd) quiet() {
	c.t.Helper()
	c.eventually(func() error {
		c.proxy.ResetCounts()
		counts := map[string]int{}
		for _, name := range c.all {
			counts[name] = c.reportCount(name)
		}
		c.e.ResendAll()
		for _, name := range c.all {
			c.waitReport(name, func(work.Report) bool { return c.reportCount(name) > counts[name] })
		}
		if n := c.proxy.Count(env.Match{}); n > 0 {
			return fmt.Errorf("%d requests in a pass over everything: %v", n, c.proxy.Calls())
		}
		return nil
	})
}

// prune deletes all works and checks that nothing is left of them.
func (c *crowd) prune() {
	c.t.Helper()
	for _, name := range c.all {
		c.markDeleted(c.e, name)
	}
	for _, name := range c.all {
		c.waitReport(name, func(r work.Report) bool { return r.Finalized })
		require.False(c.t, c.exists(inventories, c.inventoryName(name)))
	}
}

func manyWorks(b *bench) {
	t := b.t
	const works, spaces = 52, 52 // beyond 50 watches of a kind it is watched in one
	for i := range spaces {
		b.create("", fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: NS-%d}}", i))
	}
	var all []work.Desired
	for i := range works {
		at := fmt.Sprintf("namespace: NS-%d", i%spaces)
		all = append(all, b.work(fmt.Sprintf("w%d", i), []string{
			fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: a%d, %s}, data: {k: v}}", i, at),
			fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: s%d, %s}, stringData: {k: v}}", i, at),
			fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: v%d, %s}, spec: {clusterIP: None}}", i, at),
			fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: i%d, %s}}", i, at),
		}))
	}
	c := newCrowd(b, all...)
	for _, resource := range []string{"configmaps", "secrets", "services", "serviceaccounts"} {
		of := env.Match{Verbs: env.Writes(), Resources: []string{resource}}
		require.Equal(t, works, c.proxy.Count(of), "each of %s is written once", resource)
		require.Equal(t, 1, c.proxy.Calls()[env.Call{Verb: "watchlist", Resource: resource}], "%s of all namespaces share a watch", resource)
	}
	c.quiet()

	seventh := b.inNamespace(b.ns + "-7")
	seventh.edit(configMaps, "a7", "{data: {k: theirs}}")
	seventh.waitField(configMaps, "a7", "v", "data", "k")
	require.LessOrEqual(t, c.proxy.Count(env.Match{}), 2, "one that changes is read and written: %v", c.proxy.Calls())
	c.prune()
	for _, resource := range []string{"configmaps", "secrets", "services", "serviceaccounts"} {
		require.Empty(t, seventh.names(resource))
	}
}

func manyManifests(b *bench) {
	const manifests = 100
	c := newCrowd(b, b.work("web", many(manifests)))
	require.Equal(b.t, manifests, c.proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"configmaps"}}))
	require.Len(b.t, b.inventory("web"), manifests)
	c.quiet()
	c.prune()
	require.Empty(b.t, b.names("configmaps"))
}

func bigManifest(b *bench) {
	text := configMap("big", "k: "+strings.Repeat("x", wire.DefaultManifestLimit-1<<10))
	c := newCrowd(b, b.work("web", []string{text}))
	require.Equal(b.t, 1, c.proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"configmaps"}}))
	c.quiet()
	c.prune()
}

// kindComesByAnotherWork has a work wait for a kind until the pauses between its passes are long: what brings the next is that it
// watches definitions, which it does only as long as it waits.
func kindComesByAnotherWork(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	group := b.ns + ".example.com"
	definitions := env.Match{Resources: []string{"customresourcedefinitions"}, Verbs: []string{"watchlist"}}
	b.apply(e, b.work("other", []string{configMap("c", "k: v")}))
	require.Zero(t, proxy.Count(definitions))
	r := b.deliver(e, b.work("gadget", []string{gadget(group)}))
	require.Contains(t, cond(t, manifest(t, r, "g").Conditions, "Applied").Message, "the server doesn't have a resource type")
	b.eventually(func() error {
		if proxy.Count(definitions) == 0 {
			return errors.New("definitions are not watched")
		}
		return nil
	})
	const failures = 9 // from then on the pauses are 30 s long
	b.passes(e, "gadget", failures)
	start := time.Now()
	b.apply(e, b.work("kinds", []string{gadgetCRD(group)}))
	b.waitReport("gadget", settled)
	require.Less(t, time.Since(start), 15*time.Second, "it is not waited for with the pauses of before")
}
