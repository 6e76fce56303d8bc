// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

func TestExecutor(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"RQ-08_MW-69_each_verb_is_needed":    eachVerb,
		"MW-69_names_count":                  namesCount,
		"MW-69_only_to_read_takes_get":       readingTakesGet,
		"MW-69_bad_subjects":                 badSubjects,
		"MW-69_no_answer_is_no":              noAnswer,
		"MW-70_asked_again":                  askedAgain,
		"MW-70_asked_before_each_write":      askedBeforeWrites,
		"MW-70_a_right_that_is_lost":         lostRight,
		"MW-70_removed_without_a_right":      removedWithout,
		"MW-71_escalation":                   escalation,
		"MW-71_roles_and_bindings_in_a_work": rolesAndBindings,
		"MW-72_no_executor_no_check":         noExecutor,
		"T58_executor_without_rights":        executorWithoutRights,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

// TestExecutorCache runs by itself: what other tests do to the plane's RBAC would end what is remembered.
func TestExecutorCache(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-73_remembered_until_rbac_changes": rememberedRights,
		"MW-73_watched_only_while_needed":     watchedWhileNeeded,
		"MW-73_cannot_watch":                  cannotWatch,
	} {
		t.Run(name, func(t *testing.T) { test(newBenchSerial(t)) })
	}
}

var (
	roles        = rbac("roles")
	roleBindings = rbac("rolebindings")
)

func rbac(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource}
}

func reviews() env.Match { return env.Match{Resources: []string{"subjectaccessreviews"}} }

// asAccount makes a service account of the bench's namespace the executor of a work.
func (b *bench) asAccount(name string) option {
	return func(d *work.Desired) {
		d.Work.Spec.Executor = &workv1.ManifestWorkExecutor{Subject: workv1.ManifestWorkExecutorSubject{
			Type:           workv1.ExecutorSubjectTypeServiceAccount,
			ServiceAccount: &workv1.ManifestWorkSubjectServiceAccount{Namespace: b.ns, Name: name},
		}}
	}
}

// grant gives rights in the bench's namespace to a service account; rules are YAML.
func (b *bench) grant(account, rules string) {
	b.t.Helper()
	b.create("", fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: for-%s, namespace: NS}, rules: [%s]}", account, rules))
	b.create("", fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: for-%s, namespace: NS}, "+
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: for-%s}, subjects: [{kind: ServiceAccount, name: %s, namespace: NS}]}", account, account, account))
}

func onConfigMaps(verbs string) string {
	return "{apiGroups: [''], resources: [configmaps], verbs: [" + verbs + "]}"
}

const allVerbs = "create, update, patch, get, delete"

// applied returns a manifest's condition Applied in words.
func (b *bench) applied(name, object string) string {
	r := b.report(name)
	if r.Status == nil {
		return ""
	}
	for _, m := range r.Status.ResourceStatus.Manifests {
		for _, c := range m.Conditions {
			if m.ResourceMeta.Name == object && c.Type == "Applied" {
				return words(c)
			}
		}
	}
	return ""
}

func (b *bench) waitApplied(name, object string, parts ...string) string {
	b.t.Helper()
	b.eventually(func() error {
		got := b.applied(name, object)
		for _, part := range parts {
			if !strings.Contains(got, b.local(part)) {
				return fmt.Errorf("%s is %q, want %q in it", object, got, b.local(part))
			}
		}
		return nil
	})
	return b.applied(name, object)
}

func eachVerb(b *bench) {
	t := b.t
	e := b.start()
	verbs := strings.Split(allVerbs, ", ")
	for _, lacking := range verbs {
		b.grant("no-"+lacking, onConfigMaps(strings.Join(slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v == lacking }), ", ")))
		b.deliver(e, b.work(lacking, []string{configMap("c-"+lacking, "k: v")}, b.asAccount("no-"+lacking)))
		b.waitApplied(lacking, "c-"+lacking, "False AppliedManifestFailed Failed to apply manifest: not allowed to apply the resource configmaps "+
			`"c-`+lacking+`" in namespace "NS": executor system:serviceaccount:NS:no-`+lacking+" lacks "+lacking)
		require.False(t, b.exists(configMaps, "c-"+lacking))
		require.Empty(t, b.inventory(lacking))
	}
	b.grant("all", onConfigMaps(allVerbs))
	b.apply(e, b.work("all", []string{configMap("c", "k: v")}, b.asAccount("all")))
	require.Equal(t, "v", field(b.get(configMaps, "c"), "data", "k"))

	orphan := deleteOption(workv1.DeleteOption{PropagationPolicy: workv1.DeletePropagationPolicyTypeOrphan})
	b.apply(e, b.work("delete", []string{configMap("c-delete", "k: v")}, b.asAccount("no-delete"), orphan, generation(2)))
	require.True(t, b.exists(configMaps, "c-delete"), "what the work is not to own it need not delete")
	b.deliver(e, b.work("delete", []string{configMap("c-delete", "k: w")}, b.asAccount("no-delete"), generation(3)))
	b.waitApplied("delete", "c-delete", "lacks delete")
	require.Empty(t, b.get(configMaps, "c-delete").GetOwnerReferences())
}

func namesCount(b *bench) {
	t := b.t
	b.grant("some", "{apiGroups: [''], resources: [configmaps], resourceNames: [mine], verbs: ["+allVerbs+"]}")
	e := b.start()
	other := "{apiVersion: v1, kind: Secret, metadata: {name: secret, namespace: NS}}"
	b.deliver(e, b.work("web", []string{configMap("mine", "k: v"), configMap("theirs", "k: v"), other}, b.asAccount("some")))
	b.waitApplied("web", "mine", "True AppliedManifestComplete")
	b.waitApplied("web", "theirs", "lacks create, update, patch, get, delete")
	b.waitApplied("web", "secret", `not allowed to apply the resource secrets "secret" in namespace "NS"`)
	require.Equal(t, []string{"configmaps/mine"}, b.inventory("web"))
	m := manifest(t, b.report("web"), "theirs")
	require.Contains(t, words(cond(t, m.Conditions, "Available")), "Unknown FetchingResourceFailed", "what it may not read it learns nothing of")
}

func readingTakesGet(b *bench) {
	t := b.t
	b.grant("reader", onConfigMaps("get"))
	b.create("somebody", configMap("c", "k: theirs"))
	e := b.start()
	config := b.strategy(configMaps, "c", workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeReadOnly})
	config.FeedbackRules = []workv1.FeedbackRule{paths(workv1.JsonPath{Name: "k", Path: ".data.k"})}
	r := b.apply(e, b.work("web", []string{configMap("c", "k: ours")}, b.asAccount("reader"), withConfig(config)))
	require.Equal(t, []string{"k=theirs"}, values(manifest(t, r, "c")))
	b.deliver(e, b.work("web", []string{configMap("c", "k: ours")}, b.asAccount("nobody"), withConfig(config), generation(2)))
	b.waitApplied("web", "c", "lacks get")
	require.Empty(t, values(manifest(t, b.report("web"), "c")), "no feedback of what it may not read")
}

func badSubjects(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	for i, tc := range []struct {
		subject workv1.ManifestWorkExecutorSubject
		want    string
	}{
		{workv1.ManifestWorkExecutorSubject{}, `spec.executor.subject.type "" is not supported`},
		{workv1.ManifestWorkExecutorSubject{Type: "User"}, `spec.executor.subject.type "User" is not supported`},
		{workv1.ManifestWorkExecutorSubject{Type: "ServiceAccount"}, "spec.executor.subject.serviceAccount must have"},
	} {
		as := func(d *work.Desired) { d.Work.Spec.Executor = &workv1.ManifestWorkExecutor{Subject: tc.subject} }
		b.deliver(e, b.work("web", []string{configMap("c", "k: changed")}, as, generation(int64(i+2))))
		b.waitApplied("web", "c", tc.want)
		require.Equal(t, "v", field(b.get(configMaps, "c"), "data", "k"))
	}
}

// noAnswer has an apiserver that does not answer reviews.
func noAnswer(b *bench) {
	t := b.t
	b.grant("all", onConfigMaps(allVerbs)+", {apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: ["+allVerbs+"]}")
	proxy, behind := b.behind()
	e := b.start(behind)
	heal := proxy.Inject(env.Fault{Match: reviews(), Status: 500})
	role := "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, namespace: NS}, rules: [" + onConfigMaps("get") + "]}"
	b.deliver(e, b.work("web", []string{configMap("c", "k: v"), role}, b.asAccount("all")))
	b.waitApplied("web", "c", "False AppliedManifestFailed", "asking whether executor system:serviceaccount:NS:all may create configmaps", "nothing is applied before that is known")
	require.False(t, b.exists(configMaps, "c"))
	healRoles := proxy.Inject(env.Fault{Match: env.Match{Verbs: []string{"create"}, Resources: []string{"roles"}}, Status: 500})
	heal()
	b.waitApplied("web", "c", "True")
	b.waitApplied("web", "r", "asking whether executor system:serviceaccount:NS:all may grant what")
	require.False(t, b.exists(roles, "r"))
	healRoles()
	b.waitApplied("web", "r", "True")

	heal = proxy.Inject(env.Fault{Match: reviews(), Status: 500})
	b.edit(configMaps, "c", "{data: {k: drifted}}")
	b.waitApplied("web", "c", "nothing is applied before that is known")
	require.Equal(t, "drifted", field(b.get(configMaps, "c"), "data", "k"), "nothing is corrected either")
	heal()
	b.waitField(configMaps, "c", "v", "data", "k")
}

func askedAgain(b *bench) {
	t := b.t
	e := b.start()
	b.deliver(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("late")))
	b.waitApplied("web", "c", "not allowed to apply the resource")
	require.False(t, b.exists(configMaps, "c"))
	b.grant("late", onConfigMaps(allVerbs))
	b.waitApplied("web", "c", "True AppliedManifestComplete")
	require.Equal(t, []string{"configmaps/c"}, b.inventory("web"))
}

// askedBeforeWrites has an object that others change all the time: looking at it costs no question, correcting it does.
func askedBeforeWrites(b *bench) {
	t := b.t
	b.grant("app", onConfigMaps(allVerbs))
	proxy, behind := b.behind()
	e := b.start(behind)
	rule := b.rule(configMaps, "c", paths(workv1.JsonPath{Name: "seen", Path: ".metadata.labels.seen"}))
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("app"), withConfig(rule)))
	proxy.ResetCounts()
	for _, n := range []string{"one", "two", "three"} {
		b.edit(configMaps, "c", "{metadata: {labels: {seen: "+n+"}}}")
		b.waitReport("web", func(r work.Report) bool { return fmt.Sprint(values(manifest(t, r, "c"))) == "[seen="+n+"]" })
	}
	require.Zero(t, proxy.Count(reviews()))
	b.edit(configMaps, "c", "{data: {k: drifted}}")
	b.waitField(configMaps, "c", "v", "data", "k")
	require.Equal(t, 5, proxy.Count(reviews()))
	b.delete(configMaps, "c")
	b.waitField(configMaps, "c", "v", "data", "k")
	require.Equal(t, 10, proxy.Count(reviews()))
}

func lostRight(b *bench) {
	t := b.t
	b.grant("app", onConfigMaps(allVerbs))
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("app")))
	uid := b.get(configMaps, "c").GetUID()
	b.edit(roles, "for-app", "{rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]}")
	b.edit(configMaps, "c", "{data: {k: drifted}}")
	b.waitApplied("web", "c", "lacks create, update, patch, delete")
	b.passes(e, "web", 2)
	got := b.get(configMaps, "c")
	require.Equal(t, "drifted", field(got, "data", "k"), "not touched")
	require.Equal(t, uid, got.GetUID())
	require.Equal(t, []string{"configmaps/c"}, b.inventory("web"))
	require.Contains(t, words(cond(t, manifest(t, b.report("web"), "c").Conditions, "Available")), "True ResourceAvailable", "it is there all the same")

	b.deliver(e, b.work("web", []string{configMap("c", "k: new"), configMap("d", "k: v")}, b.asAccount("app"), generation(2)))
	b.waitApplied("web", "d", "not allowed")
	require.Equal(t, "drifted", field(b.get(configMaps, "c"), "data", "k"))
	require.False(t, b.exists(configMaps, "d"))
	b.edit(roles, "for-app", "{rules: ["+onConfigMaps(allVerbs)+"]}")
	b.waitField(configMaps, "c", "new", "data", "k")
	b.waitField(configMaps, "d", "v", "data", "k")
}

// removedWithout takes the executor's rights away before what it applied is removed: it was allowed to delete when it was
// allowed to apply, and a right that is gone must not keep things alive for ever.
func removedWithout(b *bench) {
	b.grant("app", onConfigMaps(allVerbs))
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("d", "k: v")}, b.asAccount("app")))
	b.delete(roleBindings, "for-app")
	b.deliver(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("app"), generation(2)))
	b.waitGone(configMaps, "d")
	b.remove(e, "web")
	require.False(b.t, b.exists(configMaps, "c"))
}

func escalation(b *bench) {
	t := b.t
	onRBAC := "{apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings], verbs: [" + allVerbs + "]}"
	b.grant("app", onConfigMaps(allVerbs)+", "+onRBAC)
	b.grant("root", onConfigMaps(allVerbs)+", {apiGroups: [rbac.authorization.k8s.io], resources: [roles, clusterroles, rolebindings], verbs: ["+allVerbs+", escalate, bind]}")
	e := b.start()
	role := func(name, rules string) string {
		return "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: " + name + ", namespace: NS}, rules: [" + rules + "]}"
	}
	binding := func(name, kind, to string) string {
		return "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: " + name + ", namespace: NS}, " +
			"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: " + kind + ", name: " + to + "}, subjects: [{kind: ServiceAccount, name: app, namespace: NS}]}"
	}
	b.create("somebody", role("was-there", onConfigMaps("get")))
	b.create("somebody", strings.Replace(binding("bound", "ClusterRole", "cluster-admin"), "name: app", "name: other", 1))
	manifests := []string{
		role("less", onConfigMaps("get")), role("more", "{apiGroups: ['*'], resources: ['*'], verbs: ['*']}"),
		role("was-there", "{apiGroups: [''], resources: [secrets], verbs: [get]}"),
		binding("admin", "ClusterRole", "cluster-admin"), binding("bound", "ClusterRole", "cluster-admin"),
	}
	b.deliver(e, b.work("web", manifests, b.asAccount("app")))
	b.waitApplied("web", "less", "True")
	for _, name := range []string{"more", "was-there", "admin", "bound"} {
		got := b.waitApplied("web", name, "not allowed to apply the resource", "may not grant what it grants")
		require.Contains(t, got, "system:serviceaccount:"+b.ns+":app")
	}
	require.False(t, b.exists(roles, "more"))
	require.False(t, b.exists(roleBindings, "admin"))
	require.NotContains(t, fmt.Sprint(b.get(roles, "was-there").Object["rules"]), "secrets")
	require.Equal(t, []string{"roles/less"}, b.inventory("web"))

	b.apply(e, b.work("web", manifests, b.asAccount("root"), generation(2)))
	require.Contains(t, fmt.Sprint(b.get(roles, "was-there").Object["rules"]), "secrets", "who may escalate may")
}

// rolesAndBindings has a binding before the role and the namespace that it is about.
func rolesAndBindings(b *bench) {
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS}, "+
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: ServiceAccount, name: admin, namespace: NS}]}")
	e := b.start()
	b.apply(e, b.work("web", []string{
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: app, namespace: NS-new}, " +
			"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: app}, subjects: [{kind: ServiceAccount, name: app, namespace: NS-new}]}",
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: app, namespace: NS-new}, rules: [" + onConfigMaps("get") + "]}",
		"{apiVersion: v1, kind: Namespace, metadata: {name: NS-new}}",
	}, b.asAccount("admin")))
}

func noExecutor(b *bench) {
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.ExecutorCache = true })
	b.apply(e, b.work("web", many(3)))
	b.passes(e, "web", 2)
	require.Zero(b.t, proxy.Count(reviews()))
	require.Zero(b.t, proxy.Count(env.Match{Verbs: []string{"list", "watch", "watchlist"}, Resources: []string{"clusterroles", "clusterrolebindings"}}))
}

func rbacWatches() env.Match {
	return env.Match{Verbs: []string{"watch", "watchlist"}, Resources: []string{"clusterrolebindings"}}
}

// untilRemembered makes passes until one asks the apiserver for nothing.
func (b *bench) untilRemembered(e *executor, proxy *env.Proxy, name string) {
	b.t.Helper()
	b.eventually(func() error {
		proxy.ResetCounts()
		b.passes(e, name, 1)
		if n := proxy.Count(reviews()); n > 0 {
			return fmt.Errorf("%d reviews in a pass over %s", n, name)
		}
		return nil
	})
}

func rememberedRights(b *bench) {
	t := b.t
	b.grant("app", onConfigMaps(allVerbs))
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) {
		c.ExecutorCache, c.ExecutorRecheck, c.Resync = true, time.Hour, time.Millisecond // every pass looks at everything
	})
	manifests := many(10)
	b.apply(e, b.work("web", manifests, b.asAccount("app")))
	b.untilRemembered(e, proxy, "web")

	start := time.Now()
	b.edit(roles, "for-app", "{rules: ["+onConfigMaps("get")+"]}")
	b.waitApplied("web", "c3", "lacks create, update, patch, delete")
	t.Logf("a right that was taken was noticed in %s", time.Since(start))
	b.edit(configMaps, "c3", "{data: {k: drifted}}")
	b.passes(e, "web", 2)
	require.Equal(t, "drifted", field(b.get(configMaps, "c3"), "data", "k"))
	b.untilRemembered(e, proxy, "web")

	start = time.Now()
	b.delete(roleBindings, "for-app")
	b.waitApplied("web", "c3", "lacks create, update, patch, get, delete")
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: NS-all}, rules: ["+onConfigMaps("'*'")+"]}")
	b.create("", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS-all}, "+
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS-all}, subjects: [{kind: Group, name: 'system:serviceaccounts:NS'}]}")
	b.waitApplied("web", "c3", "True")
	b.waitField(configMaps, "c3", "v", "data", "k")
	t.Logf("rights that were given were noticed in %s", time.Since(start))
}

func watchedWhileNeeded(b *bench) {
	b.grant("app", onConfigMaps(allVerbs))
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.ExecutorCache = true })
	b.apply(e, b.work("plain", []string{configMap("p", "k: v")}))
	require.Zero(b.t, proxy.Count(rbacWatches()))
	for range 2 { // the second time shows that the watches of the first had ended
		proxy.ResetCounts()
		b.apply(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("app")))
		b.eventually(func() error {
			if proxy.Count(rbacWatches()) == 0 {
				return fmt.Errorf("nothing is watched: %v", proxy.Calls())
			}
			return nil
		})
		b.remove(e, "web")
		b.drop("web")
		e.Enqueue("web")
		b.passes(e, "plain", 1)
	}
}

// cannotWatch has rights that may not be watched: nothing is remembered then.
func cannotWatch(b *bench) {
	b.grant("app", onConfigMaps(allVerbs))
	proxy, behind := b.behind()
	proxy.Inject(env.Fault{Match: env.Match{Verbs: []string{"list", "watch", "watchlist"}, Resources: []string{"rolebindings"}}, Status: 403})
	e := b.start(behind, func(c *work.Config) {
		c.ExecutorCache, c.Resync = true, time.Millisecond
	})
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}, b.asAccount("app")))
	b.delete(roleBindings, "for-app")
	b.passes(e, "web", 1)
	b.waitApplied("web", "c", "lacks create")
	proxy.ResetCounts()
	b.passes(e, "web", 1)
	require.NotZero(b.t, proxy.Count(reviews()))
}

func executorWithoutRights(b *bench) {
	b.grant("app", onConfigMaps(allVerbs))
	e := b.start()
	system := strings.ReplaceAll(configMap("NS-system", "k: v"), "namespace: NS", "namespace: kube-system")
	manifests := []string{
		configMap("c", "k: v"), system,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS-admin}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: ServiceAccount, name: app, namespace: NS}]}`,
		strings.NewReplacer("widgets.test", "gadgets.NS", "test.fairlead.dev", "NS.fairlead.dev", "widget", "gadget", "Widget", "Gadget").Replace(widgetCRD),
	}
	b.deliver(e, b.work("web", manifests, b.asAccount("app")))
	b.waitApplied("web", "c", "True") // once the right is known
	for _, name := range []string{b.ns + "-system", b.ns + "-admin", "gadgets." + b.ns + ".fairlead.dev"} {
		b.waitApplied("web", name, "not allowed to apply the resource", "executor system:serviceaccount:NS:app lacks")
	}
	b.passes(e, "web", 2)
	b.requireNoWrites(b.ns+"-system", b.ns+"-admin", "gadgets."+b.ns+".fairlead.dev")
	b.remove(e, "web")
}

// requireNoWrites reads in the spoke's audit log that no write to objects of these names succeeded.
func (b *bench) requireNoWrites(names ...string) {
	b.t.Helper()
	events, err := env.Shared(b.t).AuditEvents(func(event *auditv1.Event) bool {
		return event.ObjectRef != nil && slices.Contains(env.Writes(), event.Verb) && slices.Contains(names, event.ObjectRef.Name)
	})
	require.NoError(b.t, err)
	for _, event := range events {
		require.GreaterOrEqual(b.t, event.ResponseStatus.Code, int32(400), "%s %s by %s", event.Verb, event.RequestURI, event.User.Username)
	}
}
