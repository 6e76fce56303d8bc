// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"google.golang.org/protobuf/proto"
	authorizationv1 "k8s.io/api/authorization/v1"

	"fairlead.dev/fairlead/server/rpc/person"
)

// pollInterval is how often lists that live in the hub's memory are compared
// for a watcher; they cost no apiserver call.
const pollInterval = time.Second

// poller tells poll where the list comes from and how to report it.
type poller[T any] struct {
	list func(context.Context) ([]T, error)
	key  func(T) string
	// view is what has to change for an item to be reported anew.
	view    func(T) proto.Message
	upsert  func(T) error
	removed func(key string) error
	synced  func() error

	seed  maphash.Seed
	known map[string]uint64 // by key, the hash of the view last reported
}

// poll serves the one shape of all watches over a list in memory: upserts, a
// bookmark, then changes, until the caller goes away or may no longer look. It
// keeps a hash per item, and an edit that is undone within pollInterval is not
// seen: watches tell states, not events.
func poll[T any](ctx context.Context, s *Service, access authorizationv1.ResourceAttributes, p poller[T]) error {
	p.seed, p.known = maphash.MakeSeed(), map[string]uint64{}
	return s.watching(ctx, func(ctx context.Context) error { return p.run(ctx, s, access) })
}

func (p *poller[T]) run(ctx context.Context, s *Service, access authorizationv1.ResourceAttributes) error {
	var asked time.Time
	for first := true; ; first = false {
		if now := s.Now(); now.Sub(asked) >= reauthorize {
			if _, _, err := s.authorize(ctx, access); err != nil {
				return err
			}
			asked = now
		}
		if err := p.report(ctx); err != nil {
			return err
		}
		if first {
			if err := p.synced(); err != nil {
				return err
			}
		}
		if err := person.Pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// report sends what changed since the last time.
func (p *poller[T]) report(ctx context.Context) error {
	items, err := p.list(ctx)
	if err != nil {
		return err
	}
	gone := make(map[string]bool, len(p.known))
	for key := range p.known {
		gone[key] = true
	}
	for _, item := range items {
		key := p.key(item)
		delete(gone, key)
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.view(item))
		if err != nil {
			return fmt.Errorf("encoding %q for a watcher: %w", key, err)
		}
		hash := maphash.Bytes(p.seed, raw)
		if old, ok := p.known[key]; ok && old == hash {
			continue
		}
		p.known[key] = hash
		if err := p.upsert(item); err != nil {
			return err
		}
	}
	for key := range gone {
		delete(p.known, key)
		if err := p.removed(key); err != nil {
			return err
		}
	}
	return nil
}
