// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// Errors of Assembler.Add. After each of them the object in assembly is gone
// and has to be asked for again.
var (
	ErrPartOrder = errors.New("parts out of order")
	ErrPartSize  = errors.New("parts exceed the declared size")
	ErrDigest    = errors.New("content does not have the declared digest")
)

// Part is one piece of an encoded object.
type Part struct {
	Key      Key
	Revision Revision
	Encoding int32  // of the whole, as agentv1.Encoding
	Size     uint64 // of the whole, uncompressed
	Index    uint32 // from 0
	Last     bool
	Bytes    []byte
}

// Assembler puts parts together again. Parts of one object arrive one after
// the other; at most one object is in assembly, so memory is bounded by limit.
// Its zero value takes objects of up to MaxObject. Not safe for concurrent use.
type Assembler struct {
	// Limit bounds an object's bytes, encoded and uncompressed; 0 is MaxObject.
	Limit uint64

	open  bool
	first Part
	next  uint32
	buf   []byte
}

// Add takes the next part. It returns the whole encoded object once the last
// part is in. The returned slice belongs to the caller. A part with index 0
// starts a new object and drops an unfinished one.
func (a *Assembler) Add(p Part) (whole []byte, done bool, err error) {
	limit := a.Limit
	if limit == 0 {
		limit = MaxObject
	}
	if p.Index == 0 {
		*a = Assembler{Limit: a.Limit, open: true, first: p}
	}
	if err := a.check(p, limit); err != nil {
		*a = Assembler{Limit: a.Limit}
		return nil, false, err
	}
	a.buf = append(a.buf, p.Bytes...)
	a.next++
	if !p.Last {
		return nil, false, nil
	}
	whole = a.buf
	*a = Assembler{Limit: a.Limit}
	return whole, true, nil
}

// Open tells whether an object is in assembly.
func (a *Assembler) Open() bool { return a.open }

func (a *Assembler) check(p Part, limit uint64) error {
	switch {
	case !a.open || p.Index != a.next || p.Key != a.first.Key || !p.Revision.Same(a.first.Revision) || p.Encoding != a.first.Encoding || p.Size != a.first.Size:
		return fmt.Errorf("%w: part %d of %s, expected part %d of %s", ErrPartOrder, p.Index, p.Key, a.next, a.first.Key)
	case p.Size > limit:
		return fmt.Errorf("%w: %s declares %d bytes, at most %d are taken", ErrPartSize, p.Key, p.Size, limit)
	case uint64(len(a.buf)+len(p.Bytes)) > limit:
		return fmt.Errorf("%w: %s sends more than %d encoded bytes", ErrPartSize, p.Key, limit)
	}
	return nil
}

// Verify checks decoded content against its revision.
func Verify(rev Revision, content []byte) error {
	if uint64(len(content)) != rev.Size {
		return fmt.Errorf("%w: %d bytes, declared %d", ErrDigest, len(content), rev.Size)
	}
	if sum := Digest(sha256.Sum256(content)); sum != rev.Digest {
		return fmt.Errorf("%w: got %x, declared %x", ErrDigest, sum[:6], rev.Digest[:6])
	}
	return nil
}

// Cut splits an encoded object into pieces of at most size bytes; an empty
// object is one empty piece. The pieces alias encoded.
func Cut(encoded []byte, size int) [][]byte {
	pieces := make([][]byte, 0, len(encoded)/size+1)
	for len(encoded) > size {
		pieces = append(pieces, encoded[:size])
		encoded = encoded[size:]
	}
	return append(pieces, encoded)
}
