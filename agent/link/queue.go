// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// maxWindow bounds what an agent can ask for.
const maxWindow = 1 << 30

// maxFrames bounds frames that carry nothing and so cost no credit.
const maxFrames = 4096

// work is one thing that takes time: a Delta, a finalized object to forget, or
// a directive that writes.
type work struct {
	seq       uint64
	delta     *agentv1.Delta
	bytes     int
	done      *finished
	directive *agentv1.Directive
}

// queue holds what was received and is not worked off. The hub keeps it within
// the window that Hello named; a hub that does not, loses the session.
type queue struct {
	limit int
	ready chan struct{}

	mu    sync.Mutex
	items []work
	bytes int // received and not finished
}

func newQueue(window Window) *queue {
	return &queue{limit: 2*int(min(window.Bytes, maxWindow)) + maxReceive, ready: make(chan struct{}, 1)}
}

func (q *queue) push(item work) error {
	if item.delta != nil {
		item.bytes = proto.Size(item.delta)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes+item.bytes > q.limit || len(q.items) >= maxFrames {
		return ended(reason.ProtocolError, "the hub sent far more than the window allows: %d bytes in %d frames are not acknowledged", q.bytes, len(q.items))
	}
	q.items = append(q.items, item)
	q.bytes += item.bytes
	nudge(q.ready)
	return nil
}

// pop waits for the next item; ok is false when ctx ends.
func (q *queue) pop(ctx context.Context) (item work, ok bool) {
	for {
		if item, ok := q.take(); ok {
			return item, true
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return work{}, false
		}
	}
}

// take returns the next item if there is one.
func (q *queue) take() (item work, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return work{}, false
	}
	item = q.items[0]
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	return item, true
}

// finished gives back what an item took of the limit.
func (q *queue) finished(item work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= item.bytes
}
