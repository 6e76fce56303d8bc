// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds one event of a watch; etcd takes no object half as big.
const maxLine = 4 << 20

var errLineSize = fmt.Errorf("an event of the watch exceeds %d bytes", maxLine)

// lineReader cuts a stream into lines of at most maxLine bytes.
type lineReader struct {
	r    *bufio.Reader
	long []byte
}

// next returns the next line, valid until the call after. io.EOF is a clean end.
func (l *lineReader) next() ([]byte, error) {
	if cap(l.long) > 1<<20 {
		l.long = nil // one huge object is no reason to keep that much for ever
	}
	l.long = l.long[:0]
	for {
		piece, err := l.r.ReadSlice('\n')
		switch {
		case err == nil && len(l.long) == 0:
			return piece, nil
		case err == nil:
			return append(l.long, piece...), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) && len(l.long)+len(piece) > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if l.long = append(l.long, piece...); len(l.long) > maxLine {
			return nil, errLineSize
		}
	}
}
