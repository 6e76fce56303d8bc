// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package bare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

// pushers is how many goroutines send to all streams.
const pushers = 4

type server struct {
	mu      sync.Mutex
	streams map[int]grpc.ServerStream // by order of coming
	came    int

	received stat.Tally
}

// Serve is the server's process: it listens on loopback until its parent is
// gone. Its first request has to be "listen".
func Serve(ctx context.Context, dir string) error {
	ca, err := readCA(dir)
	if err != nil {
		return err
	}
	certificate, err := ca.IssueServing([]string{"127.0.0.1"}, time.Now(), lifetime)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &server{streams: map[int]grpc.ServerStream{}}
	face := grpc.NewServer(
		grpc.Creds(newSlim(ca, certificate)),
		grpc.ReadBufferSize(0), grpc.StaticStreamWindowSize(64<<10), grpc.StaticConnWindowSize(64<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	face.RegisterService(&grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: s.stream}},
	}, s)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return face.Serve(listener) })
	group.Go(func() error {
		defer face.Stop()
		return child.Serve(ctx, os.Stdin, os.Stdout, child.Handlers{
			"listen":   child.Do(func(context.Context, child.None) (string, error) { return listener.Addr().String(), nil }),
			"push":     child.Do(s.push),
			"trickle":  child.Do(s.trickle),
			"received": child.Do(s.received.Await),
		})
	})
	return group.Wait()
}

func (s *server) stream(_ any, stream grpc.ServerStream) error {
	s.mu.Lock()
	id := s.came
	s.came++
	s.streams[id] = stream
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, id)
	}()
	if err := stream.SendMsg(wrapperspb.Bytes(nil)); err != nil { // the welcome
		return err
	}
	for {
		var message wrapperspb.BytesValue
		if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		s.received.Add(1)
	}
}

func (s *server) all() []grpc.ServerStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]grpc.ServerStream, 0, len(s.streams))
	for _, stream := range s.streams {
		all = append(all, stream)
	}
	return all
}

// push sends one message of so many bytes to each stream.
func (s *server) push(ctx context.Context, bytes int) (int, error) {
	all := s.all()
	payload := make([]byte, bytes)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	group, _ := errgroup.WithContext(ctx)
	for part := range slices.Chunk(all, max(1, (len(all)+pushers-1)/pushers)) {
		group.Go(func() error {
			for _, stream := range part {
				if err := stream.SendMsg(wrapperspb.Bytes(payload)); err != nil {
					return fmt.Errorf("pushing: %w", err)
				}
			}
			return nil
		})
	}
	return len(all), group.Wait()
}

// Trickle asks for single messages, each with the time of its sending.
type Trickle struct {
	Messages, Bytes int
	Every           time.Duration
}

// trickle sends to one stream after the other.
func (s *server) trickle(ctx context.Context, t Trickle) (child.None, error) {
	all := s.all()
	if len(all) == 0 {
		return child.None{}, errors.New("there is no stream")
	}
	ticker := time.NewTicker(t.Every)
	defer ticker.Stop()
	for i := range t.Messages {
		select {
		case <-ctx.Done():
			return child.None{}, ctx.Err()
		case <-ticker.C:
		}
		if err := all[i*31%len(all)].SendMsg(wrapperspb.Bytes(stamped(t.Bytes))); err != nil {
			return child.None{}, err
		}
	}
	return child.None{}, nil
}
