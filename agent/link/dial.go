// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// How a connection is tuned (PERFORMANCE 5.3): windows do not grow, so that no
// ping follows each message; small writes keep the hub's TLS buffers small.
const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 20 * time.Second
	streamWindow     = 1 << 20
	writeBuffer      = 4 << 10
	readBuffer       = 4 << 10
	maxReceive       = wire.MaxFrame + 16<<10
)

// features are what this agent can do beyond protocol version 1 as such.
func features() []string { return []string{"zstd", "parts"} }

// connect dials one endpoint and exchanges Hello and Welcome. The session that
// it returns receives nothing until it is served.
func (l *Link) connect(ctx context.Context, address string) (*session, *Ended) {
	conn, way, config, err := l.dial(address)
	if err != nil {
		why := &Ended{Reason: reason.CertificateError, Err: fmt.Errorf("dialling %s: %w", address, err)}
		var coded interface{ Code() string }
		if errors.As(err, &coded) {
			why.Reason = coded.Code()
		}
		return nil, why
	}
	s, err := l.shake(ctx, conn, address)
	if err != nil {
		_ = conn.Close()
		why := l.skewed(ctx, address, config, endedOn(way, err))
		return nil, &Ended{Reason: why.Reason, RetryAfter: why.RetryAfter, Err: fmt.Errorf("hub at %s: %w", address, why.Err)}
	}
	return s, nil
}

func (l *Link) dial(address string) (*grpc.ClientConn, *dialer.Way, *tls.Config, error) {
	config, err := l.cfg.Credentials.TLS(address)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(l.cfg.Curves) > 0 {
		config = config.Clone()
		config.CurvePreferences = l.cfg.Curves
	}
	way := dialer.NewWay(address, config, l.cfg.Dial)
	conn, err := way.Client(
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(streamWindow),
		grpc.WithWriteBufferSize(writeBuffer),
		grpc.WithReadBufferSize(readBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithUserAgent("fairlead-agent/"+l.cfg.Identity.Version),
	)
	return conn, way, config, err
}

// shake opens the stream, says Hello and waits for Welcome.
func (l *Link) shake(ctx context.Context, conn *grpc.ClientConn, address string) (*session, error) {
	// Not ended by ctx itself, so that there is time to say goodbye.
	streamCtx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	defer stop()
	timer := time.AfterFunc(handshakeTimeout, func() {
		end(ended(reasonDisconnected, "no Welcome within %s", handshakeTimeout))
	})
	defer timer.Stop()
	stream, err := agentv1.NewAgentServiceClient(conn).Session(streamCtx)
	if err == nil {
		err = stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: l.hello()}})
	}
	var first *agentv1.SessionResponse
	if err == nil {
		first, err = stream.Recv()
	} else if stream != nil {
		if _, why := stream.Recv(); why != nil {
			err = why // what Send could not tell
		}
	}
	var welcome *agentv1.Welcome
	if err == nil {
		welcome, err = l.checkWelcome(first)
	}
	if err != nil {
		if cause := context.Cause(streamCtx); cause != nil {
			err = cause
		}
		end(err)
		return nil, err
	}
	return newSession(&session{link: l, conn: conn, stream: stream, end: end, welcome: welcome, endpoint: address}), nil
}

func (l *Link) hello() *agentv1.Hello {
	id := l.cfg.Identity
	return &agentv1.Hello{
		ProtocolMin: wire.ProtocolVersion, ProtocolMax: wire.ProtocolVersion, Features: features(),
		AgentId: id.AgentID, InstanceId: id.InstanceID, ClusterFingerprint: id.Fingerprint, AgentVersion: id.Version,
		Resume:             l.resume(),
		Window:             &agentv1.Window{Bytes: l.cfg.Window.Bytes, Objects: l.cfg.Window.Objects},
		TrustBundleVersion: l.cfg.Credentials.TrustVersion(),
	}
}

// resume describes what the agent holds.
func (l *Link) resume() *agentv1.ResumeState {
	snapshot := l.cfg.Store.Snapshot()
	l.statuses.prune(snapshot.Entries)
	desired := wire.Summarize(snapshot.Entries).Root()
	reported := wire.Summarize(l.statuses.entries()).Root()
	return &agentv1.ResumeState{
		StoreEpoch: snapshot.StoreEpoch, HubEpoch: snapshot.HubEpoch, DesiredRoot: desired[:], DesiredCount: uint32(len(snapshot.Entries)), //nolint:gosec // far below 2^32
		StatusRoot: reported[:], HighWater: snapshot.HighWater.Proto(),
	}
}

// checkWelcome reads the first frame. Whatever else comes first ends the
// session before anything was taken from it (T83).
func (l *Link) checkWelcome(first *agentv1.SessionResponse) (*agentv1.Welcome, error) {
	if bye := first.GetGoodbye(); bye != nil {
		return nil, hubEnded(bye.GetReason())
	}
	welcome := first.GetWelcome()
	known := l.knownHub()
	switch {
	case welcome == nil:
		return nil, ended(reason.ProtocolError, "the hub sent %T before Welcome", first.GetMessage())
	case first.GetSeq() != 1:
		return nil, ended(reason.ProtocolError, "Welcome has sequence number %d, not 1", first.GetSeq())
	case welcome.GetHubId() == "" || welcome.GetHubEpoch() == "" || welcome.GetSessionEpoch() == 0:
		return nil, ended(reason.ProtocolError, "Welcome lacks hub_id, hub_epoch or session_epoch")
	case known != "" && known != welcome.GetHubId():
		return nil, &Ended{Reason: reasonOtherHub, Err: fmt.Errorf("%w: its id is %q, expected %q", ErrOtherHub, welcome.GetHubId(), known)}
	case welcome.GetProtocol() != wire.ProtocolVersion:
		return nil, ended(reason.ProtocolTooOld, "the hub chose protocol %d; this agent speaks %d", welcome.GetProtocol(), wire.ProtocolVersion)
	}
	return welcome, nil
}

func duration(d *durationpb.Duration, otherwise, least, most time.Duration) time.Duration {
	asked := d.AsDuration()
	if asked <= 0 {
		return otherwise
	}
	return min(max(asked, least), most)
}
