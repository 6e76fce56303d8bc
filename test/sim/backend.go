// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/internal/wire"
)

// crashed is the panic by which a process dies in the middle of something.
type crashed struct{}

var errDisk = errors.New("the spoke's apiserver does not take the write")

// backend is what survives an agent process: a store.Backend in memory. A write
// is there when Put returned nil; when it failed, it may be there.
type backend struct {
	w       *World
	records map[wire.Key]store.Record
	meta    []byte
	faults  dice
	failing float64
	// killIn ends the process at that write from now on: before it, or after it
	// and before anybody knows. 0: not.
	killIn   int
	killLate bool
}

// step is one write.
func (b *backend) step(write func()) error {
	if b.killIn > 0 {
		if b.killIn--; b.killIn == 0 {
			if b.killLate {
				write()
			}
			panic(crashed{})
		}
	}
	if b.failing > 0 && b.faults.chance(b.failing) {
		if b.faults.chance(0.3) {
			write()
		}
		return errDisk
	}
	if !b.w.breaks("ack before it is stored") || b.faults.chance(0.9) {
		write()
	}
	return nil
}

// Load implements store.Backend.
func (b *backend) Load(context.Context) (store.Loaded, error) {
	loaded := store.Loaded{Meta: bytes.Clone(b.meta)}
	for _, key := range b.keys() {
		r := b.records[key]
		loaded.Records = append(loaded.Records, store.Record{Key: key, Head: bytes.Clone(r.Head), Body: bytes.Clone(r.Body)})
	}
	return loaded, nil
}

func (b *backend) keys() []wire.Key {
	return slices.SortedFunc(maps.Keys(b.records), func(a, b wire.Key) int { return strings.Compare(a.Name, b.Name) })
}

// PutRecord implements store.Backend.
func (b *backend) PutRecord(_ context.Context, r store.Record) error {
	r.Head, r.Body = bytes.Clone(r.Head), bytes.Clone(r.Body)
	return b.step(func() { b.records[r.Key] = r })
}

// RemoveRecord implements store.Backend.
func (b *backend) RemoveRecord(_ context.Context, key wire.Key) error {
	return b.step(func() { delete(b.records, key) })
}

// PutMeta implements store.Backend.
func (b *backend) PutMeta(_ context.Context, meta []byte) error {
	meta = bytes.Clone(meta)
	return b.step(func() { b.meta = meta })
}

// durable tells what a re-read would give of a key.
func (b *backend) durable(key wire.Key) (uid string, generation int64, deleting bool) {
	var head struct {
		Revision *struct {
			UID        string `json:"uid"`
			Generation int64  `json:"generation"`
		} `json:"revision"`
		Deletion *struct {
			State string `json:"state"`
			UID   string `json:"uid"`
		} `json:"deletion"`
	}
	if json.Unmarshal(b.records[key].Head, &head) != nil {
		return "", 0, false
	}
	if head.Revision != nil {
		uid, generation = head.Revision.UID, head.Revision.Generation
	}
	if head.Deletion != nil {
		uid, deleting = head.Deletion.UID, true
	}
	return uid, generation, deleting
}
