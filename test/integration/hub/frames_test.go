// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"k8s.io/apimachinery/pkg/runtime"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/env"
)

// largest notes the largest message that a connection carries, in bytes.
type largest struct{ in, out atomic.Int64 }

func (l *largest) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (l *largest) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (l *largest) HandleConn(context.Context, stats.ConnStats)                       {}

// HandleRPC implements stats.Handler.
func (l *largest) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		l.in.Store(max(l.in.Load(), int64(s.WireLength)))
	case *stats.OutPayload:
		l.out.Store(max(l.out.Load(), int64(s.WireLength)))
	}
}

// T21: works at the limit, of one manifest and of many, come over TLS in frames
// of at most 256 KiB, and are in the end what the hub's apiserver has.
func TestT21_works_at_the_limit_over_TLS(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := plane.Unique("t21")
	wires := &largest{}
	agent := newAgent(t, hub, cluster)
	agent.options = []grpc.DialOption{grpc.WithStatsHandler(wires)}
	agent.join(hub.token(cluster, true), false)
	s := agent.session(&agentv1.Hello{})

	one := newWork(cluster, "one-manifest", "")
	one.Spec.Workload.Manifests[0].Raw = noisy(t, one.Spec.Workload.Manifests[0].Raw, wire.DefaultManifestLimit)
	many := newWork(cluster, "many-manifests", "")
	small := many.Spec.Workload.Manifests[0].Raw
	many.Spec.Workload.Manifests = nil
	for range 40 {
		many.Spec.Workload.Manifests = append(many.Spec.Workload.Manifests, workv1.Manifest{RawExtension: runtime.RawExtension{Raw: noisy(t, small, wire.DefaultManifestLimit/40)}})
	}
	for _, work := range []*workv1.ManifestWork{one, many, newWork(cluster, "one-part", "v")} {
		hub.create(work)
		content, parts := s.whole(work.Name)
		require.Equal(t, work.Name == "one-part", parts == 1, "%d parts of %s", parts, work.Name)
		var delivered, kept workv1.ManifestWork
		require.NoError(t, json.Unmarshal(content, &delivered))
		require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKeyFromObject(work), &kept))
		require.Len(t, delivered.Spec.Workload.Manifests, len(kept.Spec.Workload.Manifests))
		for i, manifest := range kept.Spec.Workload.Manifests {
			require.Equal(t, string(manifest.Raw), string(delivered.Spec.Workload.Manifests[i].Raw), "byte for byte")
		}
	}
	t.Logf("the largest messages: %d bytes in, %d out", wires.in.Load(), wires.out.Load())
	require.LessOrEqual(t, wires.in.Load(), int64(wire.MaxFrame))
	require.LessOrEqual(t, wires.out.Load(), int64(wire.MaxFrame))
	require.Greater(t, wires.in.Load(), int64(100<<10), "parts were large")
}

// noisy is sized, and cannot be compressed much.
func noisy(t *testing.T, raw []byte, size int) []byte {
	t.Helper()
	raw = sized(t, raw, size)
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwyz0123456789-_."
	for i, b := range raw {
		if b == 'x' && i > 0 && (raw[i-1] == '"' || raw[i-1] == 'x' || i+1 < len(raw) && raw[i+1] == 'x') {
			raw[i] = letters[rand.IntN(len(letters))]
		}
	}
	return raw
}

// whole takes all parts of an object, checks and acknowledges it, and returns
// its content and of how many parts it was.
func (s *rawSession) whole(name string) (content []byte, parts int) {
	s.t.Helper()
	for {
		change := s.change(name)
		upsert := change.GetUpsert()
		require.EqualValues(s.t, parts, upsert.GetPart())
		content = append(content, upsert.GetObjectJson()...)
		parts++
		s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{ProcessedSeq: s.seq}}})
		if !upsert.GetLastPart() {
			continue
		}
		if upsert.GetEncoding() == agentv1.Encoding_ENCODING_ZSTD {
			c, err := codec.New(wire.MaxObject)
			require.NoError(s.t, err)
			content, err = c.Decompress(content, upsert.GetUncompressedSize())
			require.NoError(s.t, err)
		}
		sum := sha256.Sum256(content)
		require.Equal(s.t, change.GetRevision().GetDigest(), sum[:])
		s.stored(change)
		return content, parts
	}
}
