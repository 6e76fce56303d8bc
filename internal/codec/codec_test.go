// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

func TestPackAndDecompress(t *testing.T) {
	c, err := New(1 << 20)
	require.NoError(t, err)
	small, compressed := c.Pack([]byte("small"))
	require.False(t, compressed)
	require.Equal(t, "small", string(small))

	content := bytes.Repeat([]byte("compressible "), 1000)
	packed, compressed := c.Pack(content)
	require.True(t, compressed)
	require.Less(t, len(packed), len(content)/4)
	got, err := c.Decompress(packed, uint64(len(content)))
	require.NoError(t, err)
	require.Equal(t, content, got)

	got, err = c.Append([]byte("before "), packed, uint64(len(content)))
	require.NoError(t, err)
	require.Equal(t, "before "+string(content), string(got))
	_, err = c.Append([]byte("before "), packed, uint64(len(content)-1))
	require.ErrorIs(t, err, ErrSize, "what was there before does not count")
}

func TestDecompressRefuses(t *testing.T) {
	c, err := New(1 << 20)
	require.NoError(t, err)
	content := bytes.Repeat([]byte("x"), 10_000)
	packed := c.Compress(content)
	_, err = c.Decompress(packed, 9_999)
	require.ErrorIs(t, err, ErrSize, "more than declared")
	_, err = c.Decompress(packed, 10_001)
	require.ErrorIs(t, err, ErrSize, "less than declared")
	_, err = c.Decompress(packed, 2<<20)
	require.ErrorIs(t, err, ErrSize, "declared above the limit")
	small, err := New(1 << 10)
	require.NoError(t, err)
	_, err = small.Decompress(packed, 10_000)
	require.ErrorIs(t, err, ErrSize, "truly above the limit")
	_, err = c.Decompress([]byte("no zstd"), 7)
	require.Error(t, err)
	_, err = c.Decompress(nil, 0)
	require.Error(t, err)
}

// TestT24_bomb_costs_no_memory feeds a stream of zeros that hides its size.
func TestT24_bomb_costs_no_memory(t *testing.T) {
	var bomb bytes.Buffer
	w, err := zstd.NewWriter(&bomb, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = io.CopyN(w, zeros{}, 256<<20)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	c, err := New(1 << 20)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = c.Decompress(bomb.Bytes(), 1000)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ErrSize, "not only broken: it need not be asked for again")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestT24_declared_size: what says that it is too large is not even looked at.
func TestT24_declared_size(t *testing.T) {
	c, err := New(1000)
	require.NoError(t, err)
	_, err = c.Append(nil, []byte("no frame"), 1001)
	require.ErrorIs(t, err, ErrSize)
	require.ErrorContains(t, err, "1001 bytes declared")
}
