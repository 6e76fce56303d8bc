// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reconnectPause is how long a watch waits before it asks again.
const reconnectPause = time.Second

// Event is one event of any watch: exactly one of its fields is set.
type Event[T any] struct {
	Upsert  *T
	Removed string // id
	Synced  bool   // the snapshot is complete
	Anew    bool   // forget everything, a snapshot follows
}

// Stream opens a watch and reads its events.
type Stream[E, T any] struct {
	Open func(ctx context.Context) (grpc.ServerStreamingClient[E], error)
	Read func(*E) (Event[T], error)
}

// Each gives every event to f until f returns an error or ctx ends. A hub that
// goes away is asked again, and then everything begins anew.
func (s Stream[E, T]) Each(ctx context.Context, o *Options, f func(Event[T]) error) error {
	for told := false; ; {
		err := s.once(ctx, func(e Event[T]) error {
			told = told && e.Anew
			return f(e)
		})
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil {
			return err
		}
		if !told {
			why := ""
			if Reason(err) != "" { // a word of the hub's, and not of the network's
				why = " (" + status.Convert(err).Message() + ")"
			}
			o.Notef("The hub does not answer%s; trying again…", why)
			told = true
		}
		if err := Pause(ctx, reconnectPause); err != nil {
			return err
		}
	}
}

func (s Stream[E, T]) once(ctx context.Context, f func(Event[T]) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := f(Event[T]{Anew: true}); err != nil {
		return err
	}
	stream, err := s.Open(ctx)
	if err != nil {
		return err
	}
	for {
		raw, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil // the hub has no more to say
		}
		if err != nil {
			return err
		}
		event, err := s.Read(raw)
		if err != nil {
			return err
		}
		if err := f(event); err != nil {
			return err
		}
	}
}

// Print shows the snapshot as one table and then what changes.
func (s Stream[E, T]) Print(ctx context.Context, o *Options, printer *Printer[T]) error {
	show := &show[T]{print: printer}
	return s.Each(ctx, o, show.event)
}

// show is what a person has seen of a watch.
type show[T any] struct {
	print    *Printer[T]
	known    map[string]string // by id, what was printed last
	snapshot []T
	live     bool
}

func (s *show[T]) event(e Event[T]) error {
	switch {
	case e.Anew:
		s.snapshot, s.live = nil, false
	case e.Upsert != nil && !s.live:
		s.snapshot = append(s.snapshot, *e.Upsert)
	case e.Upsert != nil:
		id, news := s.print.kind.ID(*e.Upsert), s.print.news(*e.Upsert)
		if old, known := s.known[id]; known && old == news && news != "" {
			return nil
		}
		s.known[id] = news
		return s.print.One(*e.Upsert)
	case e.Synced:
		return s.synced()
	case e.Removed != "":
		if _, shown := s.known[e.Removed]; !shown {
			return nil
		}
		delete(s.known, e.Removed)
		return s.print.Removed(e.Removed)
	}
	return nil
}

// synced prints what of the snapshot is news, and what a former one had besides.
func (s *show[T]) synced() error {
	gone := s.known
	var fresh []T
	s.known, s.live = map[string]string{}, true
	for _, item := range s.snapshot {
		id := s.print.kind.ID(item)
		s.known[id] = s.print.news(item)
		if old, known := gone[id]; !known || old != s.known[id] || old == "" {
			fresh = append(fresh, item)
		}
		delete(gone, id)
	}
	if err := s.print.stream(fresh); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		if err := s.print.Removed(id); err != nil {
			return err
		}
	}
	return nil
}

// stream prints items as a watch does: objects one by one.
func (p *Printer[T]) stream(items []T) error {
	if !p.form.object() {
		return p.rows(items...)
	}
	for _, item := range items {
		if err := p.One(item); err != nil {
			return err
		}
	}
	return nil
}

// Pause waits, unless ctx ends before.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
