// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"strings"
)

// isCanonical tells whether a status is certainly in the form that
// CanonicalStatus gives it, as that of an agent is: decoding and sorting it to
// find that out costs several times as much, and 400 allocations instead of 3. It
// may be false for one that is.
func isCanonical(status []byte) bool {
	if len(status) == 0 || status[0] != '{' || !json.Valid(status) || leavesOut(status) {
		return false
	}
	var reader canonicalReader
	for i := 0; i < len(status); i++ {
		if status[i] != '"' {
			if !reader.structure(status[i]) {
				return false
			}
			continue
		}
		end, err := skipString(status, i)
		if err != nil || !reader.text(status[i+1:end-1]) {
			return false
		}
		i = end - 1
	}
	return true
}

// leavesOut tells whether CanonicalStatus may leave something out of a status.
func leavesOut(status []byte) bool {
	return bytes.Contains(status, []byte(`"`+ConditionDelivered+`"`)) || bytes.Contains(status, []byte(`"conditions":[]`))
}

// canonicalReader goes through JSON that is valid.
type canonicalReader struct {
	levels []canonicalLevel
	key    bool // a string that comes now is a key
}

type canonicalLevel struct {
	object, seen bool
	last         []byte // key
}

// structure takes a byte outside of strings.
func (r *canonicalReader) structure(c byte) bool {
	switch c {
	case '{', '[':
		r.key = c == '{'
		r.levels = append(r.levels, canonicalLevel{object: r.key})
	case '}', ']':
		r.key, r.levels = false, r.levels[:len(r.levels)-1]
	case ',':
		r.key = r.levels[len(r.levels)-1].object
	case ':':
		r.key = false
	case ' ', '\n', '\t', '\r':
		return false
	}
	return true
}

// text takes a string; keys have to come in order, each once.
func (r *canonicalReader) text(text []byte) bool {
	if !plain(text, !r.key) {
		return false
	}
	if !r.key {
		return true
	}
	in := &r.levels[len(r.levels)-1]
	if in.seen && bytes.Compare(in.last, text) >= 0 {
		return false
	}
	in.last, in.seen = text, true
	return true
}

// unplain are the bytes of a string that encoding/json may write otherwise.
var unplain = func() (table [256]bool) {
	for c := range table {
		table[c] = c < ' ' || c > '~' || c == '\\' || c == '<' || c == '>' || c == '&'
	}
	return table
}()

// plain tells whether encoding/json writes a string of that content as it is.
// Some escapes are known; what else there may be is not looked into.
func plain(text []byte, escapes bool) bool {
	for i := 0; i < len(text); i++ {
		if !unplain[text[i]] {
			continue
		}
		if text[i] != '\\' || !escapes {
			return false
		}
		switch rest := text[i+1:]; {
		case len(rest) > 0 && strings.IndexByte(`"\nrt`, rest[0]) >= 0:
			i++
		case bytes.HasPrefix(rest, []byte("u003c")), bytes.HasPrefix(rest, []byte("u003e")), bytes.HasPrefix(rest, []byte("u0026")):
			i += len("u003c")
		default:
			return false
		}
	}
	return true
}
