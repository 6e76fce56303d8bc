// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// Stops of a work on its way, in order.
const (
	stopHubObject = "hub-object"
	stopAccepted  = "cluster-accepted"
	stopSession   = "session"
	stopSent      = "sent"
	stopStored    = "stored"
	stopApplied   = "applied"
	stopAvailable = "available"
)

// ExplainDelivery follows one work hop by hop and says in one line where it
// stands. It reads the work and the cluster with the caller's own token.
func (s workService) ExplainDelivery(ctx context.Context, r *adminv1.ExplainDeliveryRequest) (*adminv1.ExplainDeliveryResponse, error) {
	who, err := s.asked(ctx, r.GetClusterName(), r.GetName())
	if err != nil {
		return nil, err
	}
	object, err := who.Dynamic.Resource(manifestWorks).Namespace(r.GetClusterName()).Get(ctx, r.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		held := s.heldAnywhere(ctx, r.GetClusterName())
		if batch := batchWith(held, r.GetName()); batch != nil {
			return nil, fail(codes.NotFound, reason.NotFound, "the hub has no work %q of cluster %q any more, and what it applied stays: %s", r.GetName(), r.GetClusterName(), heldWords(batch))
		}
		if batch := leftOnSpoke(held, r.GetName()); batch != nil {
			return nil, fail(codes.NotFound, reason.NotFound, "cluster %q has no work %q, but what one of that name applied: %s", r.GetClusterName(), r.GetName(), spokeWords(batch))
		}
		if _, _, err := s.readCluster(ctx, who, r.GetClusterName()); rpcerr.ReasonOf(err) == reason.UnknownCluster {
			return nil, fail(codes.NotFound, reason.UnknownCluster, "no cluster %q: «fairlead get clusters» lists them", r.GetClusterName())
		}
		return nil, fail(codes.NotFound, reason.NotFound, "cluster %q has no work %q: create it with «fairlead create work %s --clusters %s -f FILE»", r.GetClusterName(), r.GetName(), r.GetName(), r.GetClusterName())
	}
	if err != nil {
		return nil, kubernetesError(err, "reading work %q of cluster %q", r.GetName(), r.GetClusterName())
	}
	var work workv1.ManifestWork
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &work); err != nil {
		return nil, fail(codes.Internal, reason.Undecodable, "decoding work %q: %v", r.GetName(), err)
	}
	cluster, readable, err := s.readCluster(ctx, who, r.GetClusterName())
	if err != nil {
		return nil, err
	}
	sessions, err := s.sessionsOf(ctx, r.GetClusterName())
	if err != nil {
		return nil, err
	}
	e := explanation{work: &work, cluster: cluster, readable: readable, clusterless: s.Clusterless, now: s.Now()}
	if len(sessions) > 0 {
		e.session = sessions[0]
	}
	held, _ := s.Sessions.Held(work.Namespace)
	e.held = batchWith(held, work.Name)
	key := wire.Key{Kind: wire.KindWork, Name: work.Name}
	if e.state, e.stateKnown = s.Deliveries.State(work.Namespace, key); !e.stateKnown {
		if replica, ok := s.elsewhere(ctx, work.Namespace); ok {
			answer, err := s.explainElsewhere(ctx, replica, r)
			if err == nil {
				return answer, nil
			}
			e.silent = ", and does not answer: " + status.Convert(err).Message()
		}
	}
	if digest, ok := s.Deliveries.Digest(work.Namespace, key); ok {
		e.digest = hexDigest(digest)
	}
	return e.answer(), nil
}

// readCluster reads a cluster, unless the caller may not.
func (s *Service) readCluster(ctx context.Context, who *caller, name string) (cluster clusterv1.ManagedCluster, readable bool, err error) {
	object, err := who.Dynamic.Resource(managedClusters).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err) && s.Clusterless:
		return cluster, false, nil
	case apierrors.IsNotFound(err):
		return cluster, false, fail(codes.NotFound, reason.UnknownCluster, "no cluster %q: the work's namespace is left over from one that was removed", name)
	case err != nil:
		return cluster, false, kubernetesError(err, "reading cluster %q", name)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &cluster); err != nil {
		return cluster, false, fail(codes.Internal, reason.Undecodable, "decoding cluster %q: %v", name, err)
	}
	return cluster, true, nil
}

// explanation is everything known of one work at one moment; answer is pure.
type explanation struct {
	work        *workv1.ManifestWork
	cluster     clusterv1.ManagedCluster
	readable    bool // of the cluster, by the caller
	clusterless bool // there need be no cluster to read
	session     *adminv1.SessionInfo
	state       DeliveryState
	stateKnown  bool
	silent      string // why the replica that knows state did not tell
	digest      string
	held        *adminv1.HeldBatch // that the work is in
	now         time.Time
}

func (e explanation) answer() *adminv1.ExplainDeliveryResponse {
	out := &adminv1.ExplainDeliveryResponse{
		HubGeneration: e.work.Generation, HubDigest: e.digest, Uid: string(e.work.UID),
		SessionId: e.session.GetSessionId(), HubReplica: e.session.GetHubReplica(), LastSeen: e.session.GetLastReceived(),
		Stops: []*adminv1.DeliveryStop{
			e.hubObject(), e.accepted(), e.connected(), e.sent(), e.stored(),
			e.condition(stopApplied, workv1.WorkApplied), e.condition(stopAvailable, workv1.WorkAvailable),
		},
		Manifests: e.manifests(),
	}
	if applied := meta.FindStatusCondition(e.work.Status.Conditions, workv1.WorkApplied); applied != nil {
		out.ObservedGeneration = applied.ObservedGeneration
	}
	out.Verdict = e.verdict(out)
	return out
}

func stop(name string, state adminv1.StopState, at time.Time, detail string, args ...any) *adminv1.DeliveryStop {
	return &adminv1.DeliveryStop{Name: name, State: state, Detail: fmt.Sprintf(detail, args...), Time: timestamp(at)}
}

// timeOf is the zero time where there is none.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

const (
	passed  = adminv1.StopState_STOP_STATE_PASSED
	waiting = adminv1.StopState_STOP_STATE_WAITING
	broken  = adminv1.StopState_STOP_STATE_FAILED
	unknown = adminv1.StopState_STOP_STATE_UNKNOWN
)

func (e explanation) hubObject() *adminv1.DeliveryStop {
	if c := meta.FindStatusCondition(e.work.Status.Conditions, wire.ConditionDelivered); c != nil && c.Status == metav1.ConditionFalse {
		return stop(stopHubObject, broken, c.LastTransitionTime.Time, "the hub cannot deliver it: %s: %s", c.Reason, c.Message)
	}
	if at := e.work.DeletionTimestamp; at != nil {
		return stop(stopHubObject, waiting, at.Time, "it is being deleted and goes when the spoke is clean%s%s%s", e.staying(), e.leftOver(), e.unavailable())
	}
	return stop(stopHubObject, passed, e.work.CreationTimestamp.Time, "generation %d", e.work.Generation)
}

func (e explanation) accepted() *adminv1.DeliveryStop {
	switch {
	case e.clusterless:
		return stop(stopAccepted, passed, time.Time{}, "this hub accepts every certificate of its admin's own CA")
	case !e.readable:
		return stop(stopAccepted, unknown, time.Time{}, "you may not read clusters, so this is not known")
	case !e.cluster.Spec.HubAcceptsClient && meta.IsStatusConditionTrue(e.cluster.Status.Conditions, clusterv1.ManagedClusterConditionJoined):
		return stop(stopAccepted, waiting, time.Time{}, "the cluster's acceptance was taken back: set spec.hubAcceptsClient of ManagedCluster %q to let it in again", e.cluster.Name)
	case !e.cluster.Spec.HubAcceptsClient:
		return stop(stopAccepted, waiting, time.Time{}, "the hub has not accepted the cluster: «fairlead accept %s»", e.cluster.Name)
	}
	return stop(stopAccepted, passed, time.Time{}, "accepted")
}

func (e explanation) connected() *adminv1.DeliveryStop {
	if e.session == nil {
		return stop(stopSession, waiting, time.Time{}, "the cluster's agent has no session: is it running, and can it reach the hub? «fairlead explain cluster %s» says since when", e.work.Namespace)
	}
	return stop(stopSession, passed, timeOf(e.session.GetStarted()), "%s on hub replica %s", e.session.GetSessionId(), e.session.GetHubReplica())
}

// reported tells whether the spoke has answered for this very generation, which
// proves that it was sent and stored whatever replica did it.
func (e explanation) reported() bool {
	c := meta.FindStatusCondition(e.work.Status.Conditions, workv1.WorkApplied)
	return c != nil && (c.ObservedGeneration == e.work.Generation || e.complete())
}

func (e explanation) sent() *adminv1.DeliveryStop {
	switch {
	case e.session == nil && !e.reported():
		return stop(stopSent, waiting, time.Time{}, "there is no session to send it on")
	case e.stateKnown && e.state.Waiting && e.state.Refused == "":
		return stop(stopSent, waiting, time.Time{}, "it waits for its turn, or for the agent to take what was sent before it")
	case e.stateKnown || e.reported():
		return stop(stopSent, passed, e.state.Sent, "sent")
	}
	return stop(stopSent, unknown, time.Time{}, "unknown at hub replica %s%s", e.session.GetHubReplica(), e.silent)
}

func (e explanation) stored() *adminv1.DeliveryStop {
	switch {
	case e.stateKnown && e.state.Rejected != "":
		return stop(stopStored, broken, time.Time{}, "the agent refused this revision: %s", e.state.Rejected)
	case e.stateKnown && e.state.Refused != "":
		return stop(stopStored, waiting, e.state.Sent, "the agent could not take it and is sent it again: %s", e.state.Refused)
	case e.held != nil:
		return stop(stopStored, waiting, timeOf(e.held.GetSince()), "what it does not name any more stays on the spoke: %s", heldWords(e.held))
	case e.stateKnown && e.state.Held:
		return stop(stopStored, waiting, time.Time{}, "the agent holds its delete: «fairlead release %s»", e.work.Namespace)
	case e.stateKnown && !e.state.Sent.IsZero():
		return stop(stopStored, waiting, e.state.Sent, "sent %s ago, not acknowledged yet", e.now.Sub(e.state.Sent).Round(time.Second))
	case e.stateKnown && e.state.Waiting, e.session == nil && !e.reported():
		return stop(stopStored, waiting, time.Time{}, "not sent yet")
	case e.stateKnown || e.reported():
		return stop(stopStored, passed, time.Time{}, "the agent has it on disk")
	}
	return stop(stopStored, unknown, time.Time{}, "unknown at hub replica %s%s", e.session.GetHubReplica(), e.silent)
}

func (e explanation) condition(name, kind string) *adminv1.DeliveryStop {
	c := meta.FindStatusCondition(e.work.Status.Conditions, kind)
	switch {
	case c == nil:
		return stop(name, waiting, time.Time{}, "the spoke has not reported it yet%s", e.unavailable())
	case e.complete() && c.ObservedGeneration != e.work.Generation:
		return stop(name, passed, c.LastTransitionTime.Time, "the work is complete since generation %d: what was edited later is not applied", c.ObservedGeneration)
	case c.ObservedGeneration != e.work.Generation:
		return stop(name, waiting, c.LastTransitionTime.Time, "the spoke has reported generation %d, the hub has %d%s", c.ObservedGeneration, e.work.Generation, e.unavailable())
	case c.Status != metav1.ConditionTrue:
		return stop(name, broken, c.LastTransitionTime.Time, "%s: %s", c.Reason, c.Message)
	}
	return stop(name, passed, c.LastTransitionTime.Time, "%s", c.Message)
}

// unavailable is what the hub knows of a cluster that does not do its part.
func (e explanation) unavailable() string {
	c := meta.FindStatusCondition(e.cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
	if c == nil || c.Status == metav1.ConditionTrue {
		return ""
	}
	return "; the cluster is not available: " + c.Message
}
