// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/scheduler"
)

// adminServices is the list of what people and their tools call; each entry
// registers one or more services whose methods are in the table of authz.
func (h *house) adminServices() []func(grpc.ServiceRegistrar) {
	h.people = admin.New(admin.Config{
		REST: h.rest, ManifestLimit: h.cfg.ManifestLimit, Clusterless: h.cfg.AgentAuth == AuthCertificate,
		Tokens: adminTokens{h}, Enrollments: adminEnrollments{h}, Sessions: adminSessions{h}, Deliveries: adminDeliveries{h},
		Peers: h.peers, Events: h.event, Placements: h.placements, ReplicaSets: h.replicaSets(),
		Works: func(cluster string) int { return h.index.View(cluster).Summary().Count },
		Now:   time.Now, Logger: h.log,
	})
	return []func(grpc.ServiceRegistrar){h.people.Register, h.schedulers.Register}
}

// newSchedulers makes the service for external schedulers.
func (h *house) newSchedulers() (*scheduler.Service, error) {
	return scheduler.New(scheduler.Config{
		REST: h.rest, Namespace: h.cfg.Namespace, Cache: h.cache, Direct: h.direct,
		Epoch: func() string { return h.shared.Load().Epoch }, LastSeen: h.lastSeen, Now: time.Now, Logger: h.log,
	})
}

// drainPeople ends what people and schedulers watch.
func (h *house) drainPeople(ctx context.Context) {
	h.people.Drain(ctx)
	h.schedulers.Drain(ctx)
}

// lastSeen is when a cluster's agent was last heard, as well as this replica knows:
// now, for one that is connected to another.
func (h *house) lastSeen(cluster string) time.Time {
	session, ok := h.sessions.Get(cluster)
	if !ok || !session.Live {
		return session.LastSeen
	}
	if state, here := h.service.Sessions().Get(cluster); here {
		return state.LastReceived
	}
	return time.Now()
}
