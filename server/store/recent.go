// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"

	"fairlead.dev/fairlead/internal/wire"
)

// recents is how many contents recent keeps.
const recents = 64

// recent keeps what is delivered of the newest changes, by digest: most of it is
// sent within milliseconds, and then need not be unpacked. Contents are smaller
// than packFrom. Safe for concurrent use.
type recent struct {
	mu       sync.Mutex
	contents [recents]struct {
		digest wire.Digest
		bytes  []byte
	}
	next int
}

func (r *recent) put(digest wire.Digest, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contents[r.next].digest, r.contents[r.next].bytes = digest, content
	r.next = (r.next + 1) % recents
}

// get returns a content, which must not be changed, or nil.
func (r *recent) get(digest wire.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.contents {
		if c := &r.contents[i]; c.digest == digest {
			return c.bytes
		}
	}
	return nil
}
