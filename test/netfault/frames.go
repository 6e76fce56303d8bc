// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package netfault

const (
	clientPreface = 24 // bytes before the client's first frame
	frameHeader   = 9
	typeOffset    = 3
	typePing      = 6
)

// frames cuts one direction of an HTTP/2 connection into its frames and takes
// PING frames out when told to. It holds back an incomplete frame header, and
// nothing else.
type frames struct {
	preface bool // the client's preface comes first
	skip    int  // bytes of the current frame, or preface, that are to come
	drop    bool // the current frame is swallowed
	header  []byte
}

// pass returns what of the bytes goes on.
func (f *frames) pass(bytes []byte, swallow bool) []byte {
	out := make([]byte, 0, len(bytes)+frameHeader)
	if f.preface {
		f.preface, f.skip = false, clientPreface
	}
	for len(bytes) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(bytes))
			if !f.drop {
				out = append(out, bytes[:n]...)
			}
			f.skip -= n
			bytes = bytes[n:]
			continue
		}
		n := min(frameHeader-len(f.header), len(bytes))
		f.header = append(f.header, bytes[:n]...)
		bytes = bytes[n:]
		if len(f.header) < frameHeader {
			break
		}
		f.skip = int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
		f.drop = swallow && f.header[typeOffset] == typePing
		if !f.drop {
			out = append(out, f.header...)
		}
		f.header = f.header[:0]
	}
	return out
}
