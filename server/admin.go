// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/server/rpc/admin"
)

// adminServices is the list of what people call; each entry registers one or
// more services whose methods are in the table of authz.
func (h *house) adminServices() []func(grpc.ServiceRegistrar) {
	h.people = admin.New(admin.Config{
		REST: h.rest, ManifestLimit: h.cfg.ManifestLimit, Clusterless: h.cfg.AgentAuth == AuthCertificate,
		Tokens: adminTokens{h}, Enrollments: adminEnrollments{h}, Sessions: adminSessions{h}, Deliveries: adminDeliveries{h},
		Peers:  h.peers,
		Works:  func(cluster string) int { return h.index.View(cluster).Summary().Count },
		Notice: h.notice,
		Now:    time.Now, Logger: h.log,
	})
	return []func(grpc.ServiceRegistrar){h.people.Register}
}

// notice makes an Event about a cluster, best effort: the audit line is there
// anyway.
func (h *house) notice(ctx context.Context, cluster, reason, note string) {
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: cluster + "-", Namespace: metav1.NamespaceDefault},
		EventTime:  metav1.NowMicro(), ReportingController: "fairlead-hub", ReportingInstance: h.cfg.Replica,
		Type: corev1.EventTypeWarning, Reason: reason, Action: "Delete", Note: note,
		Regarding: corev1.ObjectReference{APIVersion: clusterv1.GroupVersion.String(), Kind: "ManagedCluster", Name: cluster},
	}
	if err := h.direct.Create(ctx, event); err != nil {
		h.log.WarnContext(ctx, "an event could not be made", "cluster", cluster, "reason", reason, "error", err)
	}
}
