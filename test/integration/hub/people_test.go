// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/test/env"
)

// Roles of deploy/hub/rbac/people.yaml. The author is bound in one cluster's
// namespace, the others in the whole fleet; nobody has no role.
const (
	viewer   = "fairlead-viewer"
	approver = "fairlead-enrollment-approver"
	author   = "fairlead-work-author"
	manager  = "fairlead-admin"
	chooser  = "fairlead-scheduler"
	nobody   = ""
)

// subject is what a deed is done to.
type subject struct {
	cluster, enrolled, code, token, batch, value string
}

// desk is the admin listener as one person has it.
type desk struct {
	ctx         context.Context //nolint:containedctx // it is who the person is
	enrollments adminv1.EnrollmentAdminServiceClient
	clusters    adminv1.ClusterAdminServiceClient
	works       adminv1.WorkAdminServiceClient
	placements  adminv1.PlacementAdminServiceClient
	schedulers  schedulerv1.SchedulerServiceClient
}

// deed is one method: who may, how it is done, and what is left of it. What only
// looks leaves nothing but the question whether the person may.
type deed struct {
	who    []string
	do     func(d *desk, s *subject) error
	writes string // the resource that the person is seen to write, if it is not the hub that writes
	event  string // reason of the Event on the cluster
	looks  bool
}

// last is the error of a call, or of the first message of a stream.
func last[T any](stream grpc.ServerStreamingClient[T], err error) error {
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func only[T any](_ T, err error) error { return err }

// deeds are all methods that people have.
func deeds() map[string]deed {
	enrolls := map[string]deed{
		"CreateJoinToken": {who: []string{manager}, do: func(d *desk, s *subject) error {
			made, err := d.enrollments.CreateJoinToken(d.ctx, &adminv1.CreateJoinTokenRequest{ClusterName: s.cluster, AutoAccept: true})
			s.token = made.GetTokenId()
			return err
		}},
		"ListJoinTokens": {who: []string{viewer, manager}, looks: true, do: func(d *desk, _ *subject) error {
			return only(d.enrollments.ListJoinTokens(d.ctx, &adminv1.ListJoinTokensRequest{}))
		}},
		"RevokeJoinToken": {who: []string{manager}, do: func(d *desk, s *subject) error {
			return only(d.enrollments.RevokeJoinToken(d.ctx, &adminv1.RevokeJoinTokenRequest{TokenId: s.token}))
		}},
		"ListEnrollments": {who: []string{viewer, approver, manager}, looks: true, do: func(d *desk, _ *subject) error {
			return only(d.enrollments.ListEnrollments(d.ctx, &adminv1.ListEnrollmentsRequest{}))
		}},
		"WatchEnrollments": {who: []string{viewer, approver, manager}, looks: true, do: func(d *desk, _ *subject) error {
			return last(d.enrollments.WatchEnrollments(d.ctx, &adminv1.WatchEnrollmentsRequest{}))
		}},
		"AcceptEnrollment": {who: []string{approver, manager}, writes: "managedclusters certificatesigningrequests", event: "ClientCertificateCreated", do: func(d *desk, s *subject) error {
			return only(d.enrollments.AcceptEnrollment(d.ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: s.enrolled, PairingCode: s.code}))
		}},
		"DenyEnrollment": {who: []string{approver, manager}, writes: "certificatesigningrequests", event: "EnrollmentRequested", do: func(d *desk, s *subject) error {
			return only(d.enrollments.DenyEnrollment(d.ctx, &adminv1.DenyEnrollmentRequest{ClusterName: s.enrolled, Reason: "not ours"}))
		}},
	}
	clusters := map[string]deed{
		"ListClusters": {who: []string{viewer, approver, manager, chooser}, looks: true, do: func(d *desk, _ *subject) error {
			return only(d.clusters.ListClusters(d.ctx, &adminv1.ListClustersRequest{}))
		}},
		"GetCluster": {who: []string{viewer, approver, manager, chooser}, looks: true, do: func(d *desk, s *subject) error {
			return only(d.clusters.GetCluster(d.ctx, &adminv1.GetClusterRequest{Name: s.cluster}))
		}},
		"WatchClusters": {who: []string{viewer, approver, manager, chooser}, looks: true, do: func(d *desk, _ *subject) error {
			return last(d.clusters.WatchClusters(d.ctx, &adminv1.WatchClustersRequest{}))
		}},
		"RevokeCluster": {who: []string{approver, manager}, writes: "managedclusters", event: "ClusterRevoked", do: func(d *desk, s *subject) error {
			return only(d.clusters.RevokeCluster(d.ctx, &adminv1.RevokeClusterRequest{Name: s.cluster, Reason: "gone"}))
		}},
		"ListSessions": {who: []string{viewer, manager}, looks: true, do: func(d *desk, _ *subject) error {
			return only(d.clusters.ListSessions(d.ctx, &adminv1.ListSessionsRequest{}))
		}},
		"WatchSessions": {who: []string{viewer, manager}, looks: true, do: func(d *desk, _ *subject) error {
			return last(d.clusters.WatchSessions(d.ctx, &adminv1.WatchSessionsRequest{}))
		}},
		"DeleteCluster": {who: []string{manager}, writes: "managedclusters", do: func(d *desk, s *subject) error {
			return only(d.clusters.DeleteCluster(d.ctx, &adminv1.DeleteClusterRequest{Name: s.cluster}))
		}},
		"KickSession": {who: []string{manager}, event: "SessionKicked", do: func(d *desk, s *subject) error {
			return only(d.clusters.KickSession(d.ctx, &adminv1.KickSessionRequest{ClusterName: s.cluster}))
		}},
	}
	out := schedulerDeeds()
	for service, methods := range map[string]map[string]deed{"Enrollment": enrolls, "Cluster": clusters, "Work": workDeeds(), "Placement": placementDeeds()} {
		for name, d := range methods {
			out["/fairlead.admin.v1."+service+"AdminService/"+name] = d
		}
	}
	return out
}

func workDeeds() map[string]deed {
	readers := []string{viewer, author, manager}
	return map[string]deed{
		"ApplyWork": {who: []string{author, manager}, writes: "manifestworks", do: func(d *desk, s *subject) error {
			raw, err := json.Marshal(newWork(s.cluster, "deed", s.value))
			if err != nil {
				return err
			}
			return only(d.works.ApplyWork(d.ctx, &adminv1.ApplyWorkRequest{ClusterName: s.cluster, Name: "deed", WorkJson: string(raw)}))
		}},
		"DeleteWork": {who: []string{author, manager}, writes: "manifestworks", do: func(d *desk, s *subject) error {
			return only(d.works.DeleteWork(d.ctx, &adminv1.DeleteWorkRequest{ClusterName: s.cluster, Name: "deed"}))
		}},
		"GetWork": {who: readers, looks: true, do: func(d *desk, s *subject) error {
			return only(d.works.GetWork(d.ctx, &adminv1.GetWorkRequest{ClusterName: s.cluster, Name: "there"}))
		}},
		"ListWorks": {who: readers, looks: true, do: func(d *desk, s *subject) error {
			return only(d.works.ListWorks(d.ctx, &adminv1.ListWorksRequest{ClusterName: s.cluster}))
		}},
		"WatchWorks": {who: readers, looks: true, do: func(d *desk, s *subject) error {
			return last(d.works.WatchWorks(d.ctx, &adminv1.WatchWorksRequest{ClusterName: s.cluster}))
		}},
		"ExplainDelivery": {who: readers, looks: true, do: func(d *desk, s *subject) error {
			return only(d.works.ExplainDelivery(d.ctx, &adminv1.ExplainDeliveryRequest{ClusterName: s.cluster, Name: "there"}))
		}},
		"ListHeldDeletes": {who: readers, looks: true, do: func(d *desk, s *subject) error {
			return only(d.works.ListHeldDeletes(d.ctx, &adminv1.ListHeldDeletesRequest{ClusterName: s.cluster}))
		}},
		"ReleaseHeldDeletes": {who: []string{manager}, event: "HeldDeletesReleased", do: func(d *desk, s *subject) error {
			return only(d.works.ReleaseHeldDeletes(d.ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: s.cluster, BatchId: s.batch}))
		}},
	}
}

func placementDeeds() map[string]deed {
	return map[string]deed{
		"ExplainPlacement": {who: []string{viewer, author, manager, chooser}, looks: true, do: func(d *desk, s *subject) error {
			return only(d.placements.ExplainPlacement(d.ctx, &adminv1.ExplainPlacementRequest{Namespace: s.cluster, Name: "there"}))
		}},
		"ExplainReplicaSet": {who: []string{viewer, author, manager}, looks: true, do: func(d *desk, s *subject) error {
			return only(d.placements.ExplainReplicaSet(d.ctx, &adminv1.ExplainReplicaSetRequest{Namespace: s.cluster, Name: "there"}))
		}},
	}
}

// schedulerDeeds are those of external schedulers; of what there is to choose from
// everybody may know who may list clusters.
func schedulerDeeds() map[string]deed {
	const service = "/fairlead.scheduler.v1.SchedulerService/"
	return map[string]deed{
		service + "WatchClusters": {who: []string{viewer, approver, manager, chooser}, looks: true, do: func(d *desk, _ *subject) error {
			return last(d.schedulers.WatchClusters(d.ctx, &schedulerv1.WatchClustersRequest{}))
		}},
		service + "WatchPlacements": {who: []string{viewer, manager, chooser}, looks: true, do: func(d *desk, _ *subject) error {
			return last(d.schedulers.WatchPlacements(d.ctx, &schedulerv1.WatchPlacementsRequest{SchedulerName: "deeds"}))
		}},
		service + "AcquireTerm": {who: []string{chooser}, do: func(d *desk, _ *subject) error {
			return only(d.schedulers.AcquireTerm(d.ctx, &schedulerv1.AcquireTermRequest{SchedulerName: "deeds", Holder: "h", Ttl: durationpb.New(time.Minute)}))
		}},
		service + "SubmitDecision": {who: []string{chooser}, do: func(d *desk, s *subject) error {
			ref := &schedulerv1.PlacementRef{Namespace: s.cluster, Name: "none"}
			return only(d.schedulers.SubmitDecision(d.ctx, &schedulerv1.SubmitDecisionRequest{Placement: ref, ObservedGeneration: 1, Term: 1, RequestId: "r"}))
		}},
		service + "ReportScores": {who: []string{chooser}, do: func(d *desk, s *subject) error {
			return only(d.schedulers.ReportScores(d.ctx, &schedulerv1.ReportScoresRequest{ScoreName: "s", Score: "s", Scores: map[string]int64{s.cluster: 1}}))
		}},
	}
}

// recordsScheduler has a scheduler do its deeds, and looks for who it was.
func (r *running) recordsScheduler(plane *env.Plane, log *journal, d *desk, person string) {
	region := newRegion(r, 1)
	p := region.placement("p", region.name)
	since := len(log.String())
	taken, err := d.schedulers.AcquireTerm(d.ctx, &schedulerv1.AcquireTermRequest{SchedulerName: region.name, Holder: "h", Ttl: durationpb.New(time.Minute)})
	require.NoError(r.t, err)
	_, err = (&dispatcher{t: r.t, api: d.schedulers, ctx: d.ctx, term: taken.GetTerm()}).submit(p, "r", region.clusters...)
	require.NoError(r.t, err)
	_, err = d.schedulers.ReportScores(d.ctx, &schedulerv1.ReportScoresRequest{ScoreName: "s", Score: "s", Scores: map[string]int64{region.clusters[0]: 1}})
	require.NoError(r.t, err)
	require.Equal(r.t, []string{"AcquireTerm by " + person, "SubmitDecision by " + person, "ReportScores by " + person}, auditLines(r.t, log.String()[since:]))
	for namespace, resource := range map[string]string{region.namespace: "placementdecisions", region.clusters[0]: "addonplacementscores"} {
		written, err := plane.AuditEvents(func(e *auditv1.Event) bool {
			return e.ObjectRef != nil && e.ObjectRef.Namespace == namespace && e.ObjectRef.Resource == resource && slices.Contains(env.Writes(), e.Verb)
		})
		require.NoError(r.t, err)
		require.NotEmpty(r.t, written)
		for _, e := range written {
			require.Equal(r.t, person, e.User.Username, "%s %s", e.Verb, resource)
		}
	}
}

// desk is a person's, by a bearer token, or that of somebody with a certificate.
func (r *running) desk(trust pki.Trust, token string, certificate *pki.Client) *desk {
	r.t.Helper()
	if certificate == nil {
		certificate = pki.NewClient(trust)
	}
	conn, err := grpc.NewClient(r.addresses.Admin, grpc.WithTransportCredentials(credentials.NewTLS(certificate.TLSConfig("127.0.0.1"))))
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*patience)
	r.t.Cleanup(cancel)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return &desk{
		ctx, adminv1.NewEnrollmentAdminServiceClient(conn), adminv1.NewClusterAdminServiceClient(conn), adminv1.NewWorkAdminServiceClient(conn),
		adminv1.NewPlacementAdminServiceClient(conn), schedulerv1.NewSchedulerServiceClient(conn),
	}
}

// person makes somebody with a role in one namespace, or in all (empty), and
// returns their token; they are system:serviceaccount:default:NAME.
func (r *running) person(plane *env.Plane, name, role, namespace string) string {
	r.t.Helper()
	ctx := r.t.Context()
	require.NoError(r.t, r.kube.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}))
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: "default"}}
	switch {
	case role == nobody:
	case namespace == "":
		require.NoError(r.t, r.kube.Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: ref, Subjects: subjects}))
	default:
		require.NoError(r.t, r.kube.Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, RoleRef: ref, Subjects: subjects}))
	}
	if role != nobody {
		granted := &rbacv1.ClusterRole{}
		require.NoError(r.t, r.kube.Get(ctx, client.ObjectKey{Name: role}, granted))
		env.AwaitRights(r.t, r.config, "system:serviceaccount:default:"+name, namespace, granted.Rules...)
	}
	config, err := plane.TokenConfig(ctx, "default", name)
	require.NoError(r.t, err)
	return config.BearerToken
}

// held reports a batch of deletes that the agent of a session holds.
func (s *rawSession) held(batch string) {
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{
		Held: []*agentv1.HeldBatch{{BatchId: batch, Reason: agentv1.HeldReason_HELD_REASON_COUNT}},
	}}})
}

// request asks to join as a new key, and waits for a person.
func (r *running) request(s *subject, cluster string) {
	r.t.Helper()
	agent := newAgent(r.t, r, cluster)
	csr, err := pki.NewCSR(agent.key, identity.Subject(cluster, "agent"))
	require.NoError(r.t, err)
	answer, err := agent.api.Enroll(r.t.Context(), &agentv1.EnrollRequest{ClusterName: cluster, JoinToken: r.token(cluster, false), CsrDer: csr})
	require.NoError(r.t, err)
	s.enrolled, s.code = cluster, answer.GetPairingCode()
	until(r.t, "the request to be listed", func() error {
		desk := r.admin
		list, err := desk.enrollments.ListEnrollments(desk.ctx, &adminv1.ListEnrollmentsRequest{})
		if err != nil || !slices.ContainsFunc(list.GetEnrollments(), func(e *adminv1.Enrollment) bool { return e.GetClusterName() == cluster }) {
			return errors.Join(err, errors.New("it is not"))
		}
		return nil
	})
}

// Everything that people can do, by everybody who may and may not, and what is
// left of it. The list of methods is the table's: one without a line in deeds
// fails here.
func TestT70_who_did_it_is_on_record(t *testing.T) {
	plane := env.Shared(t)
	log := &journal{}
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) {
		c.LeaderElect = false
		require.NoError(t, c.Gates.Set("ManifestWorkReplicaSet=true"))
		c.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}).ready()
	s := &subject{cluster: plane.Unique("people"), batch: "batch-1", value: "recorded"}
	agent := newAgent(t, hub, s.cluster)
	agent.join(hub.token(s.cluster, true), false)
	session := agent.session(&agentv1.Hello{})
	hub.create(newWork(s.cluster, "there", "1"))
	require.NoError(t, hub.kube.Create(t.Context(), &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Name: "there", Namespace: s.cluster}}))
	require.NoError(t, hub.kube.Create(t.Context(), &workv1alpha1.ManifestWorkReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "there", Namespace: s.cluster},
		Spec: workv1alpha1.ManifestWorkReplicaSetSpec{
			PlacementRefs: []workv1alpha1.LocalPlacementReference{{Name: "there"}}, ManifestWorkTemplate: newWork(s.cluster, "there", "1").Spec,
		},
	}))
	session.held(s.batch)
	names, desks := map[string]string{}, map[string]*desk{}
	for _, role := range []string{viewer, approver, author, manager, chooser, nobody} {
		namespace := ""
		if role == author {
			namespace = s.cluster
		}
		names[role] = plane.Unique("person")
		desks[role] = hub.desk(agent.trust, hub.person(plane, names[role], role, namespace), nil)
	}
	hub.admin = desks[manager]
	session.follow()
	until(t, "what is held to be known", func() error {
		held, err := hub.admin.works.ListHeldDeletes(hub.admin.ctx, &adminv1.ListHeldDeletesRequest{ClusterName: s.cluster})
		if err == nil && len(held.GetBatches()) == 0 {
			err = errors.New("nothing is")
		}
		return err
	})

	t.Run("T54_every_method_is_known", func(t *testing.T) {
		for _, m := range tableMethods(t) {
			if _, known := deeds()[m.Name]; !known && !strings.HasPrefix(m.Name, "/fairlead.agent.") && strings.HasPrefix(m.Name, "/fairlead.") {
				require.False(t, attackAsPerson(t, agent, hub.person(plane, plane.Unique("asks"), manager, ""), m, 1<<10), "%s has no line in deeds", m.Name)
			}
		}
		for name := range deeds() {
			require.Contains(t, authz.Methods(), name)
		}
	})
	t.Run("roles", func(t *testing.T) { rolesAllow(t, desks, s) })
	t.Run("T54_other_credentials", func(t *testing.T) {
		for credential, want := range map[*desk]codes.Code{
			hub.desk(agent.trust, "", nil):                codes.Unauthenticated,
			hub.desk(agent.trust, "made.up.token", nil):   codes.Unauthenticated,
			hub.desk(agent.trust, "", agent.tls):          codes.PermissionDenied,
			hub.desk(agent.trust, "any token", agent.tls): codes.Unauthenticated,
		} {
			for name, d := range deeds() {
				require.Equal(t, want, status.Code(d.do(credential, &subject{cluster: s.cluster, enrolled: s.cluster, code: "AAAA-BBBB-CCCC", token: "x", batch: "x"})), name)
				require.Equal(t, want, status.Code(d.do(credential, &subject{code: "none"})), "%s, of whose request nothing has the right form", name)
			}
		}
	})
	t.Run("schedulers_are_on_record", func(t *testing.T) {
		hub.recordsScheduler(plane, log, desks[chooser], "system:serviceaccount:default:"+names[chooser])
	})
	t.Run("RQ-09_every_deed_is_on_record", func(t *testing.T) {
		hub.recorded(plane, log, s, "system:serviceaccount:default:"+names[manager])
	})
}

// rolesAllow has everybody call everything. Deeds are called with what does not
// exist: whoever may gets past the question whether they may.
func rolesAllow(t *testing.T, desks map[string]*desk, s *subject) {
	t.Helper()
	for name, d := range deeds() {
		for role, desk := range desks {
			target := *s
			if !d.looks {
				target = subject{cluster: s.cluster, enrolled: "nowhere", code: "AAAA-BBBB-CCCC", token: "aaaaaaaaaa", batch: "none", value: "by " + role}
				if strings.HasSuffix(name, "/RevokeCluster") || strings.HasSuffix(name, "/KickSession") || strings.HasSuffix(name, "/DeleteCluster") {
					target.cluster = "nowhere"
				}
			}
			code := status.Code(d.do(desk, &target))
			if !slices.Contains(d.who, role) {
				require.Equal(t, codes.PermissionDenied, code, "%s by %q", name, role)
				continue
			}
			require.NotContains(t, []codes.Code{codes.PermissionDenied, codes.Unauthenticated}, code, "%s by %q", name, role)
			if d.looks {
				require.Equal(t, codes.OK, code, "%s by %q", name, role)
			}
		}
	}
}

// recorded has one person do every deed, and looks for who it was: in the
// apiserver's audit log, in ours, and in the cluster's Events.
func (r *running) recorded(plane *env.Plane, log *journal, s *subject, person string) {
	all := deeds()
	order := []string{"CreateJoinToken", "RevokeJoinToken", "AcceptEnrollment", "DenyEnrollment", "ApplyWork", "DeleteWork", "ReleaseHeldDeletes", "KickSession", "RevokeCluster", "DeleteCluster"}
	done := 0
	theirs := func(e *auditv1.Event) bool { return e.User.Username == person }
	_, place, err := plane.AuditEventsFrom(0, theirs)
	require.NoError(r.t, err)
	for _, name := range order {
		if strings.HasSuffix(name, "Enrollment") {
			r.request(s, plane.Unique("asks"))
		}
		for method, d := range all {
			if d.looks || !strings.HasSuffix(method, "/"+name) {
				continue
			}
			done++
			since := len(log.String())
			_, before, err := plane.AuditEventsFrom(place)
			require.NoError(r.t, err)
			require.NoError(r.t, d.do(r.admin, s), name)
			require.Contains(r.t, auditLines(r.t, log.String()[since:]), name+" by "+person, "our own line, once")
			var asked []auditv1.Event
			asked, place, err = plane.AuditEventsFrom(before, theirs)
			require.NoError(r.t, err)
			for _, resource := range append(strings.Fields(d.writes), map[bool]string{true: "selfsubjectaccessreviews", false: ""}[d.writes == ""]) {
				require.True(r.t, resource == "" || slices.ContainsFunc(asked, func(e auditv1.Event) bool {
					return e.ObjectRef != nil && e.ObjectRef.Resource == resource && slices.Contains([]string{"create", "update", "patch", "delete"}, e.Verb)
				}), "%s: the apiserver's audit log has %s on %s", name, person, resource)
			}
			regarding := s.cluster
			if strings.HasSuffix(name, "Enrollment") {
				regarding = s.enrolled
			}
			if d.event != "" {
				r.event(regarding, d.event)
			}
		}
	}
	deedsOfManager := 0
	for _, d := range all {
		if !d.looks && slices.Contains(d.who, manager) {
			deedsOfManager++
		}
	}
	require.Equal(r.t, deedsOfManager, done, "every deed is in the order")
	for _, line := range []string{"enroll.request", "enroll.accepted", "enroll.issued", "certificate.used", "enroll.revoked"} {
		require.Positive(r.t, strings.Count(log.String(), `"action":"`+line+`"`), line)
	}
}

// event waits for an Event on a cluster.
func (r *running) event(cluster, why string) {
	r.t.Helper()
	until(r.t, "Event "+why, func() error {
		var list eventsv1.EventList
		if err := r.kube.List(r.t.Context(), &list); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.Name == cluster {
				seen = append(seen, e.Reason)
			}
		}
		if !slices.Contains(seen, why) {
			return fmt.Errorf("cluster %s has only %v", cluster, seen)
		}
		return nil
	})
}

// auditLines are the audit lines of a log, as «action by actor»; each has to say
// of which cluster, and what was before and after.
func auditLines(t *testing.T, log string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(log) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields["msg"] != "audit" {
			continue
		}
		for _, key := range []string{"action", "actor", "cluster", "before", "after"} {
			require.Contains(t, fields, key, line)
		}
		out = append(out, fmt.Sprintf("%v by %v", fields["action"], fields["actor"]))
	}
	return out
}
