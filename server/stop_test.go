// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// unsynced is a cache whose apiserver does not answer.
type unsynced struct {
	cache.Cache
	waited chan struct{}
}

func (unsynced) Start(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (u unsynced) WaitForCacheSync(ctx context.Context) bool {
	close(u.waited)
	<-ctx.Done()
	return false
}

// A hub that is asked to stop while its cache has not come stops: its manager
// would wait for the cache for ever.
func TestManagerStopsBeforeItsCacheHasSynced(t *testing.T) {
	slow := unsynced{waited: make(chan struct{})}
	shared := newSharedCache(slow)
	mgr, err := manager.New(&rest.Config{Host: "https://127.0.0.1:1"}, manager.Options{
		NewCache: func(*rest.Config, cache.Options) (cache.Cache, error) { return lentCache{shared}, nil },
		Metrics:  metricsserver.Options{BindAddress: "0"},
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- shared.Start(ctx) }()
	go func() { ended <- mgr.Start(ctx) }()
	<-slow.waited
	stop()
	for range 2 {
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			t.Fatal("the manager waits for its cache")
		}
	}
}

// A listener that is asked to stop before it has begun to serve has nothing to say.
func TestListenerStopsBeforeItServes(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &face{name: "listener", socket: socket, server: grpc.NewServer(), health: health.NewServer()}
	f.server.Stop()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, (&house{Server: &Server{}}).runFace(ctx, f))
}
