// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"google.golang.org/grpc"

	"fairlead.dev/fairlead/server/rpc/admin"
)

// adminServices is the list of what people call; each entry registers one or
// more services whose methods are in the table of authz.
func (h *house) adminServices() []func(grpc.ServiceRegistrar) {
	h.people = admin.New(admin.Config{
		REST: h.rest, ManifestLimit: h.cfg.ManifestLimit, Clusterless: h.cfg.AgentAuth == AuthCertificate,
		Tokens: adminTokens{h}, Enrollments: adminEnrollments{h}, Sessions: adminSessions{h}, Deliveries: adminDeliveries{h},
		Peers: h.peers, Events: h.event, Placements: placements{h.placementReader(), time.Now},
		Works: func(cluster string) int { return h.index.View(cluster).Summary().Count },
		Now:   time.Now, Logger: h.log,
	})
	return []func(grpc.ServiceRegistrar){h.people.Register}
}
