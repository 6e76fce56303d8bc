// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package codec compresses one object at a time with zstd, and decompresses
// with a declared size that is never exceeded, so that a compressed bomb costs
// no memory (T24). gRPC's own compressors are not used on either side: they
// have no such bound.
package codec

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// ErrSize says that content did not decode to exactly its declared size.
var ErrSize = errors.New("content does not have its declared size")

// worthwhile is the size in bytes from which compression pays on the wire.
const worthwhile = 4 << 10

// Codec holds the pooled encoder and decoders. It is safe for concurrent use
// and never closed: without concurrency of their own they hold no goroutine.
type Codec struct {
	encoder  *zstd.Encoder
	decoders sync.Pool
	max      uint64
}

// New returns a codec that decodes objects of no more than most bytes.
func New(most uint64) (*Codec, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("making a zstd encoder: %w", err)
	}
	c := &Codec{encoder: encoder, max: most}
	if _, err := c.decoder(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Codec) decoder() (*zstd.Decoder, error) {
	if d, ok := c.decoders.Get().(*zstd.Decoder); ok {
		return d, nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(c.max+1))
	if err != nil {
		return nil, fmt.Errorf("making a zstd decoder: %w", err)
	}
	return d, nil
}

// Compress returns content compressed.
func (c *Codec) Compress(content []byte) []byte { return c.encoder.EncodeAll(content, nil) }

// Pack returns the smaller of content and content compressed, and whether it
// is compressed. Small content is left as it is.
func (c *Codec) Pack(content []byte) (packed []byte, compressed bool) {
	if len(content) < worthwhile {
		return content, false
	}
	if packed := c.Compress(content); len(packed) < len(content)*9/10 {
		return packed, true
	}
	return content, false
}

// Decompress decodes packed, which declares to be size bytes. It allocates no
// more than size plus a fixed overhead, whatever packed claims.
func (c *Codec) Decompress(packed []byte, size uint64) ([]byte, error) {
	return c.Append(nil, packed, size)
}

// Append is Decompress that appends to content what it decodes. With room for it
// there, nothing is allocated.
func (c *Codec) Append(content, packed []byte, size uint64) ([]byte, error) {
	if size > c.max {
		return nil, fmt.Errorf("%w: %d bytes declared, at most %d are taken", ErrSize, size, c.max)
	}
	var header zstd.Header
	if err := header.Decode(packed); err != nil {
		return nil, fmt.Errorf("reading the zstd header: %w", err)
	}
	if header.HasFCS && header.FrameContentSize > size {
		return nil, fmt.Errorf("%w: the frame holds %d bytes, %d declared", ErrSize, header.FrameContentSize, size)
	}
	decoder, err := c.decoder()
	if err != nil {
		return nil, err
	}
	defer c.decoders.Put(decoder)
	before := uint64(len(content))
	content, err = decoder.DecodeAll(packed, slices.Grow(content, int(size))) //nolint:gosec // not above c.max
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, fmt.Errorf("%w: more than the %d bytes that are taken: %w", ErrSize, c.max, err) // its frame hides how much
	}
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	if got := uint64(len(content)) - before; got != size {
		return nil, fmt.Errorf("%w: %d bytes, %d declared", ErrSize, got, size)
	}
	return content, nil
}
