// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

func TestDrift(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-19_healed_by_watching":                 healedByWatching,
		"MW-19_healed_while_many_are_delivered":    healedAmongMany,
		"MW-77_kept_without_a_hub":                 healedAlone,
		"watches_nothing_wider_than_what_it_needs": watchesNarrow,
		"many_objects_share_a_watch":               manyObjects,
		"forbidden_to_list_the_namespace":          forbiddenNamespace,
		"forbidden_to_watch_at_all":                forbiddenWatch,
		"T58_limited_rights":                       limitedRights,
		"missed_events_are_found_by_resync":        missedEvents,
		"T9_recreated_many_times":                  recreatedManyTimes,
		"T11_rapid_changes_and_kills":              rapidChanges,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

func TestGoroutinesEnd(t *testing.T) {
	b := newBenchSerial(t)
	b.grant("app", onConfigMaps(allVerbs))
	before := goleak.IgnoreCurrent()
	e := b.start(func(c *work.Config) { c.ExecutorCache = true })
	b.apply(e, b.work("zoo", zoo()))
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("app")))
	e.stop()
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"), goleak.IgnoreAnyFunction("net/http/internal/http2.(*clientConnReadLoop).run"))
}

func healedByWatching(b *bench) {
	t := b.t
	e := b.start(func(c *work.Config) { c.StatusSyncInterval = time.Hour })
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), webDeployment, webService}))
	for i := range 3 {
		start := time.Now()
		b.edit(configMaps, "c", fmt.Sprintf("{data: {k: changed%d, foreign: x}}", i))
		b.waitField(configMaps, "c", "v", "data", "k")
		b.waitField(configMaps, "c", nil, "data", "foreign")
		t.Logf("an edit was healed in %s", time.Since(start))
	}
	uid := b.get(configMaps, "c").GetUID()
	b.delete(configMaps, "c")
	b.waitField(configMaps, "c", "v", "data", "k")
	require.NotEqual(t, uid, b.get(configMaps, "c").GetUID())
	b.eventually(func() error {
		applied := b.appliedWork("web")
		for _, r := range applied.Status.AppliedResources {
			if r.Name == "c" && r.UID == string(b.get(configMaps, "c").GetUID()) {
				return nil
			}
		}
		return fmt.Errorf("the inventory has %v", applied.Status.AppliedResources)
	})
	b.edit(services, "web", "{spec: {selector: {app: web, broken: yes-it-is}}}")
	b.waitField(services, "web", nil, "spec", "selector", "broken")
	b.edit(deployments, "web", "{spec: {paused: true}}") // the manifest spells a false out, which is not stored
	b.waitField(deployments, "web", nil, "spec", "paused")
	b.edit(deployments, "web", `{spec: {template: {spec: {containers: [{name: web, image: other}]}}}}`)
	b.eventually(func() error {
		containers := field(b.get(deployments, "web"), "spec", "template", "spec", "containers").([]any)
		if image := containers[0].(map[string]any)["image"]; image != "registry.example/web:1" {
			return fmt.Errorf("the image is %v", image)
		}
		return nil
	})
}

// healedAmongMany has an object edited while an executor that may not ask much of its apiserver has a hundred works to deliver.
func healedAmongMany(b *bench) {
	t := b.t
	e := b.start(func(c *work.Config) {
		c.REST = rest.CopyConfig(c.REST)
		c.REST.QPS, c.REST.Burst = 40, 40
	})
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	const works = 100
	delivered := func() (n int) {
		for i := range works {
			n += min(1, b.reportCount(fmt.Sprintf("many-%d", i)))
		}
		return n
	}
	for i := range works {
		name := fmt.Sprintf("many-%d", i)
		b.put(b.work(name, []string{configMap(name, "k: v")}))
		e.Enqueue(name)
	}
	edited := time.Now()
	b.edit(configMaps, "c", "{data: {k: changed}}")
	b.waitField(configMaps, "c", "v", "data", "k")
	n := delivered()
	t.Logf("an edit was healed in %s, when %d of %d works were delivered", time.Since(edited), n, works)
	require.Less(t, n, works/2, "it does not wait for its turn")
}

// healedAlone has an executor start from its store alone, as after a restart with no hub.
func healedAlone(b *bench) {
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("d", "k: v")}))
	e.stop()
	b.edit(configMaps, "c", "{data: {k: changed}}")
	b.delete(configMaps, "d")
	b.start()
	b.waitField(configMaps, "c", "v", "data", "k")
	b.waitField(configMaps, "d", "v", "data", "k")
}

func watchesNarrow(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: NS}}"}))
	watched := env.Match{Verbs: []string{"watch", "watchlist", "list"}}
	b.eventually(func() error {
		if n := proxy.Count(watched); n < 4 { // the sweep is one of them
			return fmt.Errorf("%d watches so far", n)
		}
		return nil
	})
	for call := range proxy.Calls() {
		sweep := call.Verb == "list" && call.Resource == inventories.Resource // for those without a work
		if call.Verb == "watch" || call.Verb == "watchlist" || call.Verb == "list" && !sweep {
			require.NotEmpty(t, call.Name, "%+v", call)
		}
	}
	b.create("", configMap("unrelated", "k: v"))
	b.edit(configMaps, "unrelated", "{data: {k: w}}")
	b.passes(e, "web", 1)
	require.Zero(t, proxy.Count(env.Match{Name: "unrelated"}))
}

func many(n int) []string {
	var manifests []string
	for i := range n {
		manifests = append(manifests, configMap(fmt.Sprintf("c%d", i), "k: v"))
	}
	return manifests
}

func manyObjects(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.StatusSyncInterval = time.Hour })
	b.apply(e, b.work("web", many(30)))
	b.apply(e, b.work("few", []string{configMap("late", "k: v")}))
	for _, name := range []string{"c0", "c29", "late"} {
		b.edit(configMaps, name, "{data: {k: changed}}")
		b.waitField(configMaps, name, "v", "data", "k")
		b.delete(configMaps, name)
		b.waitField(configMaps, name, "v", "data", "k")
	}
	require.LessOrEqual(t, proxy.Count(env.Match{Verbs: []string{"watch", "watchlist"}, Resources: []string{"configmaps"}}), 3)

	b.untilNothingIsRead(e, proxy, "web")
	b.untilNothingIsRead(e, proxy, "few") // also what came to a watch that was running
}

// as grants rights in the bench's namespace and on inventories to a user of its own, and makes the executor that user.
func (b *bench) as(rules string) func(*work.Config) {
	b.t.Helper()
	config, err := env.Shared(b.t).ConfigFor("user-" + b.ns)
	require.NoError(b.t, err)
	config.QPS = -1
	subject := fmt.Sprintf("[{apiGroup: rbac.authorization.k8s.io, kind: User, name: user-%s}]", b.ns)
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: NS}, rules: ["+
		"{apiGroups: [work.open-cluster-management.io], resources: [appliedmanifestworks, appliedmanifestworks/status], verbs: ['*']}]}")
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS}, "+
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS}, subjects: "+subject+"}")
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: user, namespace: NS}, rules: ["+rules+"]}")
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: user, namespace: NS}, "+
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: user}, subjects: "+subject+"}")
	return func(c *work.Config) { c.REST = config }
}

func forbiddenNamespace(b *bench) {
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	user := work.Config{}
	b.as("{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch, delete]}, " +
		"{apiGroups: [''], resources: [configmaps], resourceNames: [" + strings.Join(names, ", ") + "], verbs: [list, watch]}")(&user)
	proxy := env.StartProxy(b.t, user.REST)
	e := b.start(func(c *work.Config) { c.REST, c.StatusSyncInterval = proxy.RESTConfig(), time.Hour })
	b.apply(e, b.work("web", many(10)))
	b.untilNothingIsRead(e, proxy, "web")
	b.edit(configMaps, "c7", "{data: {k: changed}}")
	b.waitField(configMaps, "c7", "v", "data", "k")
}

func forbiddenWatch(b *bench) {
	e := b.start(b.as("{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch, delete]}"),
		func(c *work.Config) { c.StatusSyncInterval = 200 * time.Millisecond })
	b.apply(e, b.work("web", many(10)))
	b.edit(configMaps, "c7", "{data: {k: changed}}")
	b.waitField(configMaps, "c7", "v", "data", "k")
	b.remove(e, "web")
}

func limitedRights(b *bench) {
	t := b.t
	e := b.start(b.as("{apiGroups: [''], resources: [configmaps], verbs: ['*']}"))
	admin := `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS-admin}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: []}`
	system := strings.ReplaceAll(configMap("NS-system", "k: v"), "namespace: NS", "namespace: kube-system")
	other := strings.ReplaceAll(configMap("NS-other", "k: v"), "namespace: NS", "namespace: default")
	crd := strings.NewReplacer("widgets.test", "limits.NS", "test.fairlead.dev", "NS.fairlead.dev", "widget", "limit", "Widget", "Limit").Replace(widgetCRD)
	r := b.deliver(e, b.work("web", []string{configMap("c", "k: v"), admin, system, other, crd}))
	b.waitApplied("web", "c", "True") // once the right is known
	refused := []string{b.ns + "-admin", b.ns + "-system", b.ns + "-other", "limits." + b.ns + ".fairlead.dev"}
	for _, name := range refused {
		m := manifest(t, r, name)
		require.Contains(t, cond(t, m.Conditions, "Applied").Message, "forbidden")
		require.Contains(t, words(cond(t, m.Conditions, "Available")), "Unknown FetchingResourceFailed")
	}
	b.requireNoWrites(refused...)
	b.remove(e, "web")
}

// missedEvents has a watch that fell silent.
func missedEvents(b *bench) {
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.StatusSyncInterval, c.Resync = time.Hour, 2*time.Second })
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	b.untilNothingIsRead(e, proxy, "web")
	proxy.Freeze(env.Match{Resources: []string{"configmaps"}})
	b.edit(configMaps, "c", "{data: {k: changed}}")
	b.waitField(configMaps, "c", "v", "data", "k")
}

func recreatedManyTimes(b *bench) {
	t := b.t
	random := rand.New(rand.NewPCG(1, 2))
	e := b.start()
	for i := range 40 {
		uid := fmt.Sprintf("uid-%d", i)
		b.put(b.work("web", []string{configMap("c", fmt.Sprintf("v: %q", uid))}, withUID(uid)))
		e.Enqueue("web")
		switch random.IntN(4) {
		case 0:
			e.stop()
			e = b.start()
		case 1:
			b.remove(e, "web")
			require.Equal(t, uid, b.report("web").UID)
			require.False(t, b.exists(configMaps, "c"), "a resurrection")
		case 2:
			b.markDeleted(e, "web") // the next one comes while this is under way
		}
	}
	b.apply(e, b.work("web", []string{configMap("c", "v: last")}, withUID("last")))
	require.Equal(t, "last", field(b.get(configMaps, "c"), "data", "v"))
	require.Equal(t, []string{"configmaps/c"}, b.inventory("web"))
	b.passes(e, "web", 3)
	require.True(t, b.exists(configMaps, "c"), "no delete of an older work hit it")
}

func rapidChanges(b *bench) {
	random := rand.New(rand.NewPCG(3, 4))
	e := b.start()
	var want []string
	for i := range 60 {
		want = nil
		var manifests []string
		for j := range 8 {
			if random.IntN(2) == 0 {
				want = append(want, fmt.Sprintf("configmaps/c%d", j))
				manifests = append(manifests, configMap(fmt.Sprintf("c%d", j), fmt.Sprintf(`v: "%d"`, i)))
			}
		}
		b.put(b.work("web", manifests, generation(int64(i+1))))
		e.Enqueue("web")
		if i%10 == 9 {
			e.stop()
			e = b.start()
		}
	}
	b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == 60 })
	b.eventually(func() error {
		if got := b.inventory("web"); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("the inventory is %v, want %v", got, want)
		}
		if got := b.names("configmaps"); len(got) != len(want) {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})
}
