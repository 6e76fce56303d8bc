// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// pollInterval is how often lists that live in the hub's memory are compared
// for a watcher; they cost no apiserver call.
const pollInterval = time.Second

const (
	defaultPage = 500
	maxPage     = 5000
)

// pollFuncs tells poll where the list comes from and how to report it.
type pollFuncs[T proto.Message] struct {
	list    func(context.Context) ([]T, error)
	key     func(T) string
	upsert  func(T) error
	removed func(key string) error
	synced  func() error
}

// poll serves the one shape of all watches over a list in memory: upserts, a
// bookmark, then changes, until the caller goes away. It holds one copy of the
// list per watcher, and an edit that is undone within pollInterval is not seen:
// watches tell states, not events.
func poll[T proto.Message](ctx context.Context, f pollFuncs[T]) error {
	known := map[string]T{}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for first := true; ; first = false {
		if err := report(ctx, f, known); err != nil {
			return err
		}
		if first {
			if err := f.synced(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func report[T proto.Message](ctx context.Context, f pollFuncs[T], known map[string]T) error {
	items, err := f.list(ctx)
	if err != nil {
		return err
	}
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		key := f.key(item)
		seen[key] = true
		if old, ok := known[key]; ok && proto.Equal(old, item) {
			continue
		}
		known[key] = item
		if err := f.upsert(item); err != nil {
			return err
		}
	}
	for key := range known {
		if seen[key] {
			continue
		}
		delete(known, key)
		if err := f.removed(key); err != nil {
			return err
		}
	}
	return nil
}

// paginate cuts a list into pages in the order of key. A page token is the key
// after which the page begins, so it stays good while the list changes.
func paginate[T any](items []T, size int32, token string, key func(T) string) (page []T, next string, err error) {
	switch {
	case size < 0 || size > maxPage:
		return nil, "", fail(codes.InvalidArgument, reason.InvalidArgument, "page_size %d is not between 0 and %d", size, maxPage)
	case size == 0:
		size = defaultPage
	}
	sorted := slices.Clone(items)
	slices.SortFunc(sorted, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	start, found := slices.BinarySearchFunc(sorted, token, func(item T, token string) int { return strings.Compare(key(item), token) })
	if found && token != "" {
		start++
	}
	page = sorted[start:]
	if len(page) > int(size) {
		page = page[:size]
		next = key(page[len(page)-1])
	}
	return page, next, nil
}
