// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecompress: packed bytes from anybody give exactly the declared size or an
// error, for no more memory than that; and what is packed unpacks to itself.
func FuzzDecompress(f *testing.F) {
	const most = 1 << 20
	c, err := New(most)
	require.NoError(f, err)
	f.Add(c.Compress([]byte("content")), uint32(7))
	f.Add(c.Compress(bytes.Repeat([]byte("content"), 2000)), uint32(14000))
	f.Add(c.Compress(make([]byte, 64<<20)), uint32(100))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x00"), uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, size uint32) {
		before := allocated()
		content, err := c.Decompress(data, uint64(size))
		require.Less(t, allocated()-before, uint64(2*most+len(data)+4<<20), "memory is bounded, whatever is claimed")
		if err == nil {
			require.Len(t, content, int(size))
			require.LessOrEqual(t, size, uint32(most))
		}
		whole, compressed := c.Pack(data)
		if compressed {
			require.Less(t, len(whole), len(data))
			if whole, err = c.Append([]byte("before"), whole, uint64(len(data))); err == nil {
				whole = whole[len("before"):]
			}
			require.NoError(t, err)
		}
		require.Equal(t, data, whole)
	})
}

// allocated is how many bytes this process has ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
