// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

// region is a namespace with placements, and clusters that they may have.
type region struct {
	*running
	plane           *env.Plane
	name, namespace string
	clusters        []string
}

// newRegion makes clusters in a set that is bound in a namespace, and one more
// that is not in it.
func newRegion(hub *running, n int) *region {
	t, plane := hub.t, env.Shared(hub.t)
	t.Helper()
	r := &region{running: hub, plane: plane, name: plane.Unique("region")}
	r.namespace = r.name
	r.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	r.create(&clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: r.name}})
	r.create(&clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Name: r.name, Namespace: r.namespace}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: r.name},
	})
	for i := range n {
		name := fmt.Sprintf("%s-c%d", r.name, i)
		r.cluster(name, map[string]string{clusterv1beta2.ClusterSetLabel: r.name, "region": r.name})
		r.clusters = append(r.clusters, name)
	}
	r.cluster(r.name+"-foreign", map[string]string{"region": r.name})
	return r
}

func (r *region) create(object client.Object) {
	r.t.Helper()
	require.NoError(r.t, r.kube.Create(r.t.Context(), object))
}

func (r *region) cluster(name string, labels map[string]string) {
	r.t.Helper()
	r.create(&clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	r.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// placement asks for one cluster, of a scheduler; "" is the hub's own.
func (r *region) placement(name, scheduler string) *clusterv1beta1.Placement {
	r.t.Helper()
	p := &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.namespace, Annotations: map[string]string{v1alpha1.AnnotationScheduler: scheduler}},
		Spec:       clusterv1beta1.PlacementSpec{NumberOfClusters: new(int32(1)), Tolerations: unhealthy()},
	}
	r.create(p)
	return p
}

// unhealthy tolerates clusters that no agent answers for.
func unhealthy() []clusterv1beta1.Toleration {
	return []clusterv1beta1.Toleration{{Key: clusterv1.ManagedClusterTaintUnreachable, Operator: clusterv1beta1.TolerationOpExists}}
}

// decided are the clusters that a placement has, as the apiserver has them.
func (r *region) decided(name string) []string {
	r.t.Helper()
	var list clusterv1beta1.PlacementDecisionList
	require.NoError(r.t, r.kube.List(r.t.Context(), &list, client.InNamespace(r.namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: name}))
	var out []string
	for _, d := range list.Items {
		for _, c := range d.Status.Decisions {
			out = append(out, c.ClusterName)
		}
	}
	return out
}

// writes are how often placement decisions of the namespace were written.
func (r *region) writes() int {
	r.t.Helper()
	events, err := r.plane.AuditEvents(func(e *auditv1.Event) bool {
		return e.ObjectRef != nil && e.ObjectRef.Namespace == r.namespace && e.ObjectRef.Resource == "placementdecisions" && slices.Contains(env.Writes(), e.Verb)
	})
	require.NoError(r.t, err)
	return len(events)
}

// dispatcher is one process of an external scheduler.
type dispatcher struct {
	t      *testing.T
	api    schedulerv1.SchedulerServiceClient
	ctx    context.Context //nolint:containedctx // it is who the scheduler is
	holder string
	term   uint64
}

// dispatcher of a hub's, by a token.
func (r *running) dispatcher(token, holder string) *dispatcher {
	r.t.Helper()
	conn := adminConn(r.t, r, newAgent(r.t, r, "none"))
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*patience)
	r.t.Cleanup(cancel)
	return &dispatcher{t: r.t, api: schedulerv1.NewSchedulerServiceClient(conn), ctx: metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), holder: holder}
}

// acquire waits for the term of a scheduler.
func (d *dispatcher) acquire(name string, ttl time.Duration) {
	d.t.Helper()
	until(d.t, "the term of "+name, func() error {
		answer, err := d.api.AcquireTerm(d.ctx, &schedulerv1.AcquireTermRequest{SchedulerName: name, Holder: d.holder, Ttl: durationpb.New(ttl)})
		if err != nil && rpcerr.ReasonOf(err) != reason.TermHeld {
			require.NoError(d.t, err)
		}
		d.term = answer.GetTerm()
		return err
	})
}

func (d *dispatcher) submit(p *clusterv1beta1.Placement, request string, clusters ...string) (*schedulerv1.SubmitDecisionResponse, error) {
	return d.api.SubmitDecision(d.ctx, &schedulerv1.SubmitDecisionRequest{
		Placement:          &schedulerv1.PlacementRef{Namespace: p.Namespace, Name: p.Name, Uid: string(p.UID)},
		ObservedGeneration: p.Generation, Term: d.term, ClusterNames: clusters, RequestId: request, Explanation: "chosen by " + d.holder,
	})
}

// heard is what a watch told, by the names of what it is about.
type heard struct {
	events []string // "+name", "-name", "reset", "mark"
	token  string
	last   map[string]*schedulerv1.Placement
}

// watch reads a watch of placements until enough says so.
func (d *dispatcher) watch(name, token string, enough func(*heard) bool) *heard {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	stream, err := d.api.WatchPlacements(ctx, &schedulerv1.WatchPlacementsRequest{SchedulerName: name, ResumeToken: token})
	require.NoError(d.t, err)
	h := &heard{token: token, last: map[string]*schedulerv1.Placement{}}
	for !enough(h) {
		h.read(d.t, stream)
	}
	return h
}

func (h *heard) read(t *testing.T, stream grpc.ServerStreamingClient[schedulerv1.WatchPlacementsResponse]) {
	t.Helper()
	event, err := stream.Recv()
	require.NoError(t, err, "heard so far: %v", h.events)
	h.take(t, event)
}

func (h *heard) take(t *testing.T, event *schedulerv1.WatchPlacementsResponse) {
	t.Helper()
	switch e := event.GetEvent().(type) {
	case *schedulerv1.WatchPlacementsResponse_Upsert:
		h.events = append(h.events, "+"+e.Upsert.GetRef().GetName())
		h.last[e.Upsert.GetRef().GetName()] = e.Upsert
	case *schedulerv1.WatchPlacementsResponse_Removed:
		h.events = append(h.events, "-"+e.Removed.GetName())
		delete(h.last, e.Removed.GetName())
	case *schedulerv1.WatchPlacementsResponse_Reset_:
		h.events = append(h.events, "reset")
		clear(h.last)
	case *schedulerv1.WatchPlacementsResponse_Bookmark:
		require.True(t, e.Bookmark.GetInitialSyncComplete())
		h.events, h.token = append(h.events, "mark"), e.Bookmark.GetResumeToken()
	}
}

// marked is enough once a bookmark followed all of these.
func marked(events ...string) func(*heard) bool {
	return func(h *heard) bool {
		for _, e := range events {
			i := slices.Index(h.events, e)
			if i < 0 || !slices.Contains(h.events[i:], "mark") {
				return false
			}
		}
		return slices.Contains(h.events, "mark")
	}
}

// T69: of two processes of one scheduler, on two replicas, the one that was paused
// for longer than its term decides nothing any more; nor does who looked at an
// older generation; and a repeat of a request is answered the same, on either
// replica and after a restart, with one write.
func TestT69_an_old_scheduler_is_fenced(t *testing.T) {
	plane := env.Shared(t)
	one, two := startHub(t, plane.RESTConfig(), nil).ready(), startHub(t, plane.RESTConfig(), nil).ready()
	region := newRegion(one, 3)
	name := region.name
	token := one.person(plane, plane.Unique("scheduler"), "fairlead-scheduler", "")
	old, newer := one.dispatcher(token, "old"), two.dispatcher(token, "new")
	p := region.placement("web", name)

	old.acquire(name, 10*time.Minute)
	answer, err := old.submit(p, "r1", region.clusters[0])
	require.NoError(t, err)
	require.True(t, answer.GetApplied())
	require.Equal(t, p.Generation, answer.GetAcceptedGeneration())
	require.Equal(t, region.clusters[:1], region.decided("web"))

	t.Run("fenced", func(t *testing.T) { // old is paused
		paused := old.term
		old.acquire(name, 2*time.Second)
		require.Equal(t, paused, old.term, "it is the same one, and ends soon")
		_, err := newer.api.AcquireTerm(newer.ctx, &schedulerv1.AcquireTermRequest{SchedulerName: name, Holder: "new", Ttl: durationpb.New(time.Minute)})
		require.True(t, err == nil || rpcerr.ReasonOf(err) == reason.TermHeld && rpcerr.RetryAfterOf(err) > 0, "%v", err)
		newer.acquire(name, 10*time.Minute)
		require.Greater(t, newer.term, paused)
		_, err = old.submit(p, "r2", region.clusters[1])
		require.Equal(t, codes.FailedPrecondition, status.Code(err), "%v", err)
		require.Equal(t, reason.Fenced, rpcerr.ReasonOf(err))
		require.Equal(t, region.clusters[:1], region.decided("web"), "nothing was written")
	})
	t.Run("transcript", func(t *testing.T) { region.transcript(t, newer) })
	t.Run("repeat", func(t *testing.T) {
		first, err := newer.submit(p, "r3", region.clusters[1])
		require.NoError(t, err)
		require.Equal(t, region.clusters[1:2], region.decided("web"))
		before := region.writes()
		three := startHub(t, plane.RESTConfig(), nil).ready() // as after a restart
		for _, hub := range []*running{one, two, three} {
			again := hub.dispatcher(token, "new")
			again.term = newer.term
			repeated, err := again.submit(p, "r3", region.clusters[1])
			require.NoError(t, err)
			require.Equal(t, first.String(), repeated.String())
		}
		require.Equal(t, before, region.writes(), "one write in all")
	})
	t.Run("stale", func(t *testing.T) {
		changed := p.DeepCopy()
		require.NoError(t, one.kube.Patch(t.Context(), changed, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"numberOfClusters":2}}`))))
		_, err := newer.submit(p, "r4", region.clusters[2])
		require.Equal(t, reason.StaleGeneration, rpcerr.ReasonOf(err), "%v", err)
		require.Equal(t, codes.Aborted, status.Code(err))
		_, err = newer.submit(changed, "r5", region.clusters[1:]...)
		require.NoError(t, err)
		require.ElementsMatch(t, region.clusters[1:], region.decided("web"))
	})
	t.Run("rejected", func(t *testing.T) { region.rejected(newer, p) })
	t.Run("term_outlives_its_lease", func(t *testing.T) {
		last := newer.term
		require.NoError(t, one.kube.DeleteAllOf(t.Context(), &coordinationv1.Lease{}, client.InNamespace(identity.HubNamespace), client.MatchingLabels{identity.LeaseLabel: "scheduler"}))
		newer.acquire(name, 10*time.Minute)
		require.Greater(t, newer.term, last, "terms only grow")
		renewed := newer.term
		newer.acquire(name, 10*time.Minute)
		require.Equal(t, renewed, newer.term, "whoever has it renews it")
	})
}

// rejected: clusters outside the sets come back, and nothing is applied unless a
// part will do; a dry run writes nothing; and a placement of the hub's own, or of
// another scheduler, is not for this one.
func (r *region) rejected(d *dispatcher, p *clusterv1beta1.Placement) {
	t := r.t
	var now clusterv1beta1.Placement
	require.NoError(t, r.kube.Get(t.Context(), client.ObjectKeyFromObject(p), &now))
	before, written := r.decided("web"), r.writes()
	answer, err := d.submit(&now, "r6", r.clusters[0], r.name+"-foreign", "nowhere")
	require.NoError(t, err)
	require.False(t, answer.GetApplied())
	require.Equal(t, []string{r.name + "-foreign", "nowhere"}, answer.GetRejected())
	require.Equal(t, before, r.decided("web"))
	request := &schedulerv1.SubmitDecisionRequest{
		Placement: &schedulerv1.PlacementRef{Namespace: r.namespace, Name: "web"}, ObservedGeneration: now.Generation, Term: d.term,
		ClusterNames: []string{r.clusters[0], "nowhere"}, RequestId: "r7", AllowPartial: true, DryRun: true,
	}
	answer, err = d.api.SubmitDecision(d.ctx, request)
	require.NoError(t, err)
	require.True(t, answer.GetApplied())
	require.Equal(t, written, r.writes(), "a dry run, and what is refused, write nothing")
	request.DryRun, request.RequestId = false, "r8"
	_, err = d.api.SubmitDecision(d.ctx, request)
	require.NoError(t, err)
	require.Equal(t, r.clusters[:1], r.decided("web"), "the part that may be")

	own := r.placement("own", "")
	_, err = d.submit(own, "r9", r.clusters[0])
	require.Equal(t, reason.OtherScheduler, rpcerr.ReasonOf(err), "%v", err)
	foreign := r.placement("foreign", "another")
	_, err = d.submit(foreign, "r10", r.clusters[0])
	require.Equal(t, reason.Fenced, rpcerr.ReasonOf(err), "it has no term of that name: %v", err)
	_, err = d.submit(&clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Name: "none", Namespace: r.namespace, Generation: 1}}, "r11")
	require.Equal(t, codes.NotFound, status.Code(err), "%v", err)
}

// A watch goes on where it was, on another replica and after a restart of all, by
// what the apiserver has; after a restore everything is told anew.
func TestSchedulers_watches_go_on(t *testing.T) {
	plane := env.Shared(t)
	one, two := startHub(t, plane.RESTConfig(), nil).ready(), startHub(t, plane.RESTConfig(), nil).ready()
	region := newRegion(one, 1)
	name := region.name
	token := one.person(plane, plane.Unique("scheduler"), "fairlead-scheduler", "")
	d := one.dispatcher(token, "d")
	a, b, c := region.placement("a", name), region.placement("b", name), region.placement("c", name)
	foreign := region.placement("foreign", "another")
	h := d.watch(name, "", marked("+a", "+b", "+c"))
	require.Equal(t, []string{"+a", "+b", "+c", "mark"}, h.events, "a snapshot, and a bookmark")
	require.Contains(t, h.last["a"].GetSpecJson(), `"numberOfClusters":1`)
	require.Empty(t, h.last["a"].GetCurrent())

	// One changes, one goes, one becomes another's, and one of another's changes.
	d.acquire(name, time.Minute)
	_, err := d.submit(a, "r1", region.clusters[0])
	require.NoError(t, err)
	require.NoError(t, one.kube.Delete(t.Context(), b))
	for _, p := range []*clusterv1beta1.Placement{c, foreign} {
		was := p.DeepCopy()
		p.Annotations[v1alpha1.AnnotationScheduler] = "another"
		p.Spec.NumberOfClusters = nil
		require.NoError(t, one.kube.Patch(t.Context(), p, client.MergeFrom(was)))
	}
	more := func(h *heard) bool {
		return marked("+a", "-b", "-c")(h) && slices.Equal(h.last["a"].GetCurrent(), region.clusters)
	}
	resumed := two.dispatcher(token, "d").watch(name, h.token, more)
	require.NotContains(t, resumed.events, "reset")
	require.Equal(t, "mark", resumed.events[0], "it goes on at once")
	one.stop()
	two.stop()
	three := startHub(t, plane.RESTConfig(), nil).ready()
	again := three.dispatcher(token, "d")
	restarted := again.watch(name, h.token, more)
	require.NotContains(t, restarted.events, "reset", "the apiserver remembers")
	require.Equal(t, []string{"mark"}, again.watch(name, restarted.token, marked()).events, "nothing twice")

	for why, bad := range map[string]string{"nonsense": "x", "of another watch": again.clusterToken("region=" + name)} {
		h := again.watch(name, bad, marked("+a"))
		require.Equal(t, []string{"reset", "+a", "mark"}, h.events, why)
	}
	region.running = three
	region.restored(again, restarted.token)
}

// clusterToken is where a watch of clusters stands.
func (d *dispatcher) clusterToken(selector string) string {
	d.t.Helper()
	stream, err := d.api.WatchClusters(d.ctx, &schedulerv1.WatchClustersRequest{LabelSelector: selector})
	require.NoError(d.t, err)
	for {
		event, err := stream.Recv()
		require.NoError(d.t, err)
		if mark := event.GetBookmark(); mark != nil {
			return mark.GetResumeToken()
		}
	}
}

// restored: an admin orders a new epoch, as after a restore.
func (r *region) restored(d *dispatcher, token string) {
	t := r.t
	ordered := false
	h := d.watch(r.name, "", func(h *heard) bool {
		if !ordered && marked("+a")(h) {
			ordered = true
			patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"data":{"hub-epoch":"%032x"}}`, time.Now().UnixNano()))
			require.NoError(t, r.kube.Patch(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: identity.HubNamespace, Name: "fairlead-hub"}}, patch))
			h.events = nil
		}
		return ordered && marked("+a")(h)
	})
	require.Equal(t, []string{"reset", "+a", "mark"}, h.events, "a watch that lives")
	h = d.watch(r.name, token, marked("+a"))
	require.Equal(t, []string{"reset", "+a", "mark"}, h.events, "a token from before")
}

// WatchClusters tells clusters with what a scheduler needs, and scores that another
// reported: merged with those of others, rejected where there is no right to write.
func TestSchedulers_clusters_and_scores(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	region := newRegion(hub, 2)
	first := region.clusters[0]
	d := hub.dispatcher(hub.person(plane, plane.Unique("scheduler"), "fairlead-scheduler", ""), "d")
	stream, err := d.api.WatchClusters(d.ctx, &schedulerv1.WatchClustersRequest{LabelSelector: "region=" + region.name})
	require.NoError(t, err)
	known := map[string]*schedulerv1.Cluster{}
	hear := func(what string, enough func() bool) {
		t.Helper()
		for !enough() {
			event, err := stream.Recv()
			require.NoError(t, err, what)
			if up := event.GetUpsert(); up != nil {
				known[up.GetName()] = up
			}
			delete(known, event.GetRemoved())
		}
	}
	hear("the snapshot", func() bool { return len(known) == 3 })
	require.Equal(t, "Unknown", known[first].GetAvailable())

	report := &schedulerv1.ReportScoresRequest{
		ScoreName: "load", Score: "cpu", Scores: map[string]int64{first: 42, region.clusters[1]: -100, "nowhere": 1}, ValidUntil: timestamppb.New(time.Now().Add(time.Hour)),
	}
	until(t, "the clusters to be known to the hub", func() error {
		answer, err := d.api.ReportScores(d.ctx, report)
		require.NoError(t, err)
		if !slices.Equal(answer.GetRejected(), []string{"nowhere"}) {
			return fmt.Errorf("rejected: %v", answer.GetRejected())
		}
		return nil
	})
	other := &schedulerv1.ReportScoresRequest{ScoreName: "load", Score: "memory", Scores: map[string]int64{first: 7}}
	_, err = d.api.ReportScores(d.ctx, other)
	require.NoError(t, err)
	hear("both scores", func() bool {
		return known[first].GetScores()["load/cpu"] == 42 && known[first].GetScores()["load/memory"] == 7 && known[region.clusters[1]].GetScores()["load/cpu"] == -100
	})
	stored := &clusterv1alpha1.AddOnPlacementScore{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Namespace: first, Name: "load"}, stored))
	require.Len(t, stored.Status.Scores, 2)
	require.NotNil(t, stored.Status.ValidUntil, "who does not say it leaves it")
	version := stored.ResourceVersion
	_, err = d.api.ReportScores(d.ctx, report)
	require.NoError(t, err)
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Namespace: first, Name: "load"}, stored))
	require.Equal(t, version, stored.ResourceVersion, "a repeat writes nothing")

	require.NoError(t, hub.kube.Delete(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: first}}))
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"region":"elsewhere"}}}`))
	require.NoError(t, hub.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: region.clusters[1]}}, patch))
	hear("what is deleted, and what the selector does not match any more, to go", func() bool { return len(known) == 1 })

	for field, bad := range map[string]*schedulerv1.ReportScoresRequest{
		"scores":      {ScoreName: "load", Score: "cpu", Scores: map[string]int64{first: 101}},
		"valid_until": {ScoreName: "load", Score: "cpu", Scores: map[string]int64{first: 1}, ValidUntil: timestamppb.New(time.Unix(1, 0))},
		"score_name":  {ScoreName: "No!", Score: "cpu", Scores: map[string]int64{first: 1}},
		`score ""`:    {ScoreName: "load", Scores: map[string]int64{first: 1}},
	} {
		_, err := d.api.ReportScores(d.ctx, bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err), field)
		require.Contains(t, err.Error(), field)
	}
}

// Whoever may list placements in one namespace is told of that one only, and a
// right that is taken away ends the watch.
func TestSchedulers_see_what_they_may(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	mine, other := newRegion(hub, 1), newRegion(hub, 1)
	name := mine.name
	mine.placement("mine", name)
	other.placement("not-mine", name)
	person := plane.Unique("bounded")
	token := hub.person(plane, person, "fairlead-scheduler", mine.namespace)
	d := hub.dispatcher(token, "d")
	_, err := d.api.AcquireTerm(d.ctx, &schedulerv1.AcquireTermRequest{SchedulerName: name, Holder: "d", Ttl: durationpb.New(time.Minute)})
	require.Equal(t, codes.PermissionDenied, status.Code(err), "«use» is not of one namespace: %v", err)
	require.Equal(t, codes.PermissionDenied, status.Code(last(d.api.WatchPlacements(d.ctx, &schedulerv1.WatchPlacementsRequest{SchedulerName: name}))))
	hub.allow(person, "schedulers", "fairlead.dev", "use", name)
	h := d.watch(name, "", marked("+mine"))
	require.Equal(t, []string{"+mine", "mark"}, h.events)
	d.acquire(name, time.Minute)
	theirs := &clusterv1beta1.Placement{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Namespace: other.namespace, Name: "not-mine"}, theirs))
	_, err = d.submit(theirs, "r1", other.clusters[0])
	require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
	require.Empty(t, other.decided("not-mine"))
	_, err = d.api.ReportScores(d.ctx, &schedulerv1.ReportScoresRequest{ScoreName: "s", Score: "s", Scores: map[string]int64{mine.clusters[0]: 1}})
	require.Equal(t, codes.PermissionDenied, status.Code(err), "scores are in the clusters' namespaces: %v", err)
}

// allow lets somebody do one more thing, in the whole fleet.
func (r *running) allow(person, resource, group, verb, name string) {
	r.t.Helper()
	role := person + "-" + resource
	ctx := r.t.Context()
	rule := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}, ResourceNames: []string{name}}
	require.NoError(r.t, r.kube.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{rule}}))
	require.NoError(r.t, r.kube.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: person, Namespace: "default"}},
	}))
	env.AwaitRights(r.t, r.config, "system:serviceaccount:default:"+person, "", rule)
}
