// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"fmt"
)

// eachMember calls f with the key (without quotes) and raw value of each member
// of a JSON object. Nesting is counted, not recursed into, so depth costs no
// stack. The slices alias raw.
func eachMember(raw []byte, f func(key, value []byte) error) error {
	i, err := open(raw, '{')
	if err != nil {
		return err
	}
	for !closes(raw, i, '}') {
		keyEnd, err := skipString(raw, i)
		if err != nil {
			return err
		}
		key := raw[i+1 : keyEnd-1]
		i = skipSpace(raw, keyEnd)
		if i >= len(raw) || raw[i] != ':' {
			return syntaxError(raw, i, "a colon")
		}
		start := skipSpace(raw, i+1)
		end, err := skipValue(raw, start)
		if err != nil {
			return err
		}
		if err := f(key, raw[start:end]); err != nil {
			return err
		}
		if i, err = next(raw, end, '}'); err != nil {
			return err
		}
	}
	return nil
}

// EachElement calls f with each raw element of a JSON array, until f returns an
// error; null has none. The elements alias raw. Nothing is copied, kept or looked
// into, so an array costs no memory however many elements it has.
func EachElement(raw []byte, f func(value []byte) error) error {
	if string(raw) == "null" {
		return nil
	}
	i, err := open(raw, '[')
	if err != nil {
		return err
	}
	for !closes(raw, i, ']') {
		end, err := skipValue(raw, i)
		if err != nil {
			return err
		}
		if err := f(raw[i:end]); err != nil {
			return err
		}
		if i, err = next(raw, end, ']'); err != nil {
			return err
		}
	}
	return nil
}

func open(raw []byte, bracket byte) (int, error) {
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != bracket {
		return 0, syntaxError(raw, i, string(bracket))
	}
	return skipSpace(raw, i+1), nil
}

func closes(raw []byte, i int, bracket byte) bool { return i < len(raw) && raw[i] == bracket }

// next moves past the comma after a value, or stays at the closing bracket.
func next(raw []byte, i int, bracket byte) (int, error) {
	i = skipSpace(raw, i)
	if closes(raw, i, bracket) {
		return i, nil
	}
	if i >= len(raw) || raw[i] != ',' {
		return 0, syntaxError(raw, i, "a comma or "+string(bracket))
	}
	if i = skipSpace(raw, i+1); closes(raw, i, bracket) || i >= len(raw) {
		return 0, syntaxError(raw, i, "a value")
	}
	return i, nil
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index after the string that starts at i.
func skipString(raw []byte, i int) (int, error) {
	if i >= len(raw) || raw[i] != '"' {
		return 0, syntaxError(raw, i, "a string")
	}
	start := i + 1
	length := bytes.IndexByte(raw[start:], '"')
	if length < 0 {
		return 0, syntaxError(raw, len(raw), "the end of a string")
	}
	escape := bytes.IndexByte(raw[start:start+length], '\\')
	if escape < 0 {
		return start + length + 1, nil
	}
	for i = start + escape; i < len(raw); i++ { // byte by byte, lest many escapes each cost a search
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1, nil
		}
	}
	return 0, syntaxError(raw, len(raw), "the end of a string")
}

// skipValue returns the index after the value that starts at i.
func skipValue(raw []byte, i int) (int, error) {
	if i >= len(raw) {
		return 0, syntaxError(raw, i, "a value")
	}
	switch raw[i] {
	case '"':
		return skipString(raw, i)
	case '{', '[':
		return skipNested(raw, i)
	}
	start := i
	for i < len(raw) && isScalar(raw[i]) {
		i++
	}
	if i == start {
		return 0, syntaxError(raw, i, "a value")
	}
	return i, nil
}

// structural are the bytes that skipNested has to look at.
var structural = [256]bool{'"': true, '{': true, '[': true, '}': true, ']': true}

func skipNested(raw []byte, i int) (int, error) {
	for depth := 0; i < len(raw); i++ {
		for i < len(raw) && !structural[raw[i]] {
			i++
		}
		if i == len(raw) {
			break
		}
		switch raw[i] {
		case '"':
			end, err := skipString(raw, i)
			if err != nil {
				return 0, err
			}
			i = end - 1
		case '{', '[':
			depth++
		default:
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
	}
	return 0, syntaxError(raw, len(raw), "a closing bracket")
}

func isScalar(c byte) bool {
	return c == '-' || c == '+' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
}

func syntaxError(raw []byte, i int, want string) error {
	if i >= len(raw) {
		return fmt.Errorf("%w: ends where %s should be, after %d bytes", ErrScan, want, len(raw))
	}
	return fmt.Errorf("%w: byte %d is %q where %s should be", ErrScan, i, raw[i], want)
}
