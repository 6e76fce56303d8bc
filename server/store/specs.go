// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"

	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// packing is how the bytes of a spec are kept.
type packing byte

const (
	plain packing = iota
	// fast is S2: for what is small, a quarter of zstd's time and a third more
	// bytes. It is unpacked before it is sent.
	fast
	// dense is zstd, which goes out as it is.
	dense
)

// spec is one spec, kept once however many works have it. All but refs is
// immutable.
type spec struct {
	digest  wire.Digest
	packed  []byte
	packing packing
	size    uint64
	refs    int
}

// specs interns specs by their SHA-256.
type specs struct {
	mu       sync.Mutex
	byDigest map[wire.Digest]*spec
	bytes    int64
}

// take returns the spec with these bytes and holds a reference to it.
func (s *specs) take(content []byte, packer *codec.Codec) *spec {
	digest := wire.Digest(sha256.Sum256(content))
	if known := s.hold(digest, nil); known != nil {
		return known
	}
	fresh := &spec{digest: digest, size: uint64(len(content))}
	fresh.packed, fresh.packing = pack(content, packer)
	return s.hold(digest, fresh)
}

// pack returns content in as many bytes as are kept of it.
func pack(content []byte, packer *codec.Codec) ([]byte, packing) {
	var packed []byte
	how := fast
	if len(content) < packFrom {
		packed = s2.Encode(nil, content)
	} else {
		packed, how = packer.Compress(content), dense
	}
	if len(packed) >= len(content) {
		packed, how = content, plain
	}
	return bytes.Clone(packed), how
}

// hold adds a reference to a known spec, or to fresh, which becomes known.
func (s *specs) hold(digest wire.Digest, fresh *spec) *spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.byDigest[digest]
	if !ok {
		if fresh == nil {
			return nil
		}
		if s.byDigest == nil {
			s.byDigest = map[wire.Digest]*spec{}
		}
		known = fresh
		s.byDigest[digest] = known
		s.bytes += int64(len(known.packed))
	}
	known.refs++
	return known
}

// release gives back one reference; readers may go on using the spec.
func (s *specs) release(held *spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held.refs--; held.refs == 0 {
		delete(s.byDigest, held.digest)
		s.bytes -= int64(len(held.packed))
	}
}

func (s *specs) size() (count int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byDigest), s.bytes
}

// appendTo appends the spec's bytes.
func (s *spec) appendTo(content []byte, packer *codec.Codec) ([]byte, error) {
	switch s.packing {
	case fast:
		content = slices.Grow(content, int(s.size)) //nolint:gosec // less than packFrom
		unpacked, err := s2.Decode(content[len(content):cap(content)], s.packed)
		return append(content, unpacked...), err
	case dense:
		return packer.Append(content, s.packed, s.size)
	default:
		return append(content, s.packed...), nil
	}
}
