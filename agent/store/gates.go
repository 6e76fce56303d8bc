// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"fairlead.dev/fairlead/internal/wire"
)

// gates orders writes: those of one key follow each other, and a write that
// concerns all keys is alone. They guard the way to the backend only; readers
// never wait for a write.
type gates [16]chan struct{}

func newGates() *gates {
	g := &gates{}
	for i := range g {
		g[i] = make(chan struct{}, 1)
	}
	return g
}

// one waits for the turn of a key.
func (g *gates) one(ctx context.Context, key wire.Key) (leave func(), err error) {
	gate := g[int(key.Bucket())%len(g)]
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// all waits for the turn of every key.
func (g *gates) all(ctx context.Context) (leave func(), err error) {
	for i, gate := range g {
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
			g.open(i)
			return nil, ctx.Err()
		}
	}
	return func() { g.open(len(g)) }, nil
}

func (g *gates) open(n int) {
	for _, gate := range g[:n] {
		<-gate
	}
}
