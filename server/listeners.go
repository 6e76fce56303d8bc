// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
)

// stopAfterDrain is how long calls that are not sessions may take to end once
// sessions have been asked to go; with the longest DrainTime it makes 30 s.
const stopAfterDrain = 5 * time.Second

// healthPoll is how often the Health service learns of readiness.
const healthPoll = time.Second

// face is one gRPC listener.
type face struct {
	name     string
	listener authz.Listener
	socket   net.Listener
	server   *grpc.Server
	health   *health.Server
	// drain is asked to empty the server before it stops; may be nil.
	drain func(ctx context.Context)
}

// serve runs both listeners until ctx ends and they are empty.
func (h *house) serve(ctx context.Context, sockets *listeners) error {
	agents, err := h.newFace("agent listener", authz.AgentListener, sockets.agent, h.service.Register)
	if err != nil {
		return err
	}
	agents.drain = h.drainSessions
	admin, err := h.newFace("admin listener", authz.AdminListener, sockets.admin, h.registerAdmin)
	if err != nil {
		return err
	}
	admin.drain = h.drainPeople
	return runTasks(ctx, []task{
		{agents.name, func(ctx context.Context) error { return h.runFace(ctx, agents) }},
		{admin.name, func(ctx context.Context) error { return h.runFace(ctx, admin) }},
	})
}

// newFace makes a server whose methods equal the table's, or fails.
func (h *house) newFace(name string, listener authz.Listener, socket net.Listener, register func(grpc.ServiceRegistrar)) (*face, error) {
	chain := interceptor.New(interceptor.Config{
		Listener: listener, Table: authz.Methods(), Verify: h.verify, Authenticate: h.callers.Authenticate, Review: h.review,
		Now: h.cfg.Clock.Now, Log: h.log, Registry: h.registry,
	})
	limit := 0
	if listener == authz.AgentListener {
		limit = h.cfg.MaxConnectionsPerSource
	}
	options := append(interceptor.TransportOptions(listener), chain.ServerOptions()...)
	options = append(options, grpc.Creds(interceptor.NewTransport(interceptor.TransportConfig{
		PKI: h.authorities.Server(), Handshakes: 4 * runtime.GOMAXPROCS(0), Registry: h.registry,
	})))
	f := &face{
		name: name, listener: listener, socket: interceptor.Listen(socket, limit, h.registry),
		server: grpc.NewServer(options...), health: health.NewServer(),
	}
	healthv1.RegisterHealthServer(f.server, f.health)
	register(f.server)
	if err := authz.Methods().Verify(listener, f.server.GetServiceInfo()); err != nil {
		return nil, fmt.Errorf("the services of the %s and the method table differ: %w", name, err)
	}
	return f, nil
}

// registerAdmin puts on the admin listener what people and tools call.
func (h *house) registerAdmin(registrar grpc.ServiceRegistrar) {
	for _, s := range h.adminServices() {
		s(registrar)
	}
	if server, ok := registrar.(*grpc.Server); ok {
		reflection.Register(server)
		channelz.RegisterChannelzServiceToServer(server)
	}
}

// runFace serves until ctx ends, then asks everybody to leave, waits for the
// last calls, and cuts what is left.
func (h *house) runFace(ctx context.Context, f *face) error {
	return runTasks(context.WithoutCancel(ctx), []task{ // ends when the server has stopped
		{"serve", func(context.Context) error {
			if err := f.server.Serve(f.socket); !errors.Is(err, grpc.ErrServerStopped) { // before it could begin
				return err
			}
			return nil
		}},
		{"stop", func(context.Context) error {
			h.followHealth(ctx, f)
			h.stopFace(f) //nolint:contextcheck // it has a time of its own, as ctx has ended
			return nil
		}},
	})
}

// followHealth keeps the Health service at what readiness says until ctx ends.
func (h *house) followHealth(ctx context.Context, f *face) {
	ticker := time.NewTicker(healthPoll)
	defer ticker.Stop()
	for {
		status := healthv1.HealthCheckResponse_SERVING
		if h.ready.Err() != nil {
			status = healthv1.HealthCheckResponse_NOT_SERVING
		}
		f.health.SetServingStatus("", status)
		for service := range f.server.GetServiceInfo() {
			f.health.SetServingStatus(service, status)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (h *house) stopFace(f *face) {
	f.health.Shutdown()
	if f.drain != nil {
		deadline, cancel := context.WithTimeout(context.Background(), h.cfg.DrainTime) // ours is over
		f.drain(deadline)
		cancel()
	}
	cut := time.AfterFunc(stopAfterDrain, f.server.Stop)
	defer cut.Stop()
	f.server.GracefulStop()
}

// drainSessions asks all agents to go elsewhere, spread over the drain time,
// while none is let in any more.
func (h *house) drainSessions(ctx context.Context) {
	h.draining.Store(true)
	n := h.service.Sessions().Len()
	h.log.Info("this replica drains", "sessions", n)
	h.service.Sessions().Drain(ctx, h.cfg.DrainTime)
}
