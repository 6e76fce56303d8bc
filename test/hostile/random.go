// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"encoding/binary"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	// maxDepth and maxFields bound a random message.
	maxDepth  = 6
	maxFields = 4000
	// many is the length of a list that is long.
	many = 700
)

// Random makes messages out of the bytes of a fuzzer: the same bytes give the
// same message, and a changed byte mostly changes one thing in it.
type Random struct {
	data []byte
	// Words are texts that mean something to the server, such as names of what it has.
	Words []string

	left int // fields that may still be set
}

// NewRandom takes its choices from data.
func NewRandom(data []byte, words ...string) *Random { return &Random{data: data, Words: words} }

// Done tells that all choices are used up.
func (r *Random) Done() bool { return len(r.data) == 0 }

// Message is the next one of that type.
func (r *Random) Message(d protoreflect.MessageDescriptor) []byte {
	r.left = maxFields
	return encode(r.message(d, maxDepth))
}

func (r *Random) byte() byte {
	if r.Done() {
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

// message sets some of the fields: each that a bit is set for.
func (r *Random) message(d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	if depth == 0 || r.Done() {
		return m
	}
	if oneof := r.oneof(d); oneof != nil {
		r.set(m, oneof, depth)
	}
	var bits byte
	for i := range d.Fields().Len() {
		if i%8 == 0 {
			bits = r.byte()
		}
		if field := d.Fields().Get(i); bits>>(i%8)&1 == 1 && field.ContainingOneof() == nil {
			r.set(m, field, depth)
		}
	}
	return m
}

// oneof is the arm to be set of the first oneof, if any.
func (r *Random) oneof(d protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if d.Oneofs().Len() == 0 {
		return nil
	}
	arms := d.Oneofs().Get(0).Fields()
	if i := int(r.byte()) % (arms.Len() + 1); i < arms.Len() {
		return arms.Get(i)
	}
	return nil
}

func (r *Random) set(m *dynamicpb.Message, field protoreflect.FieldDescriptor, depth int) {
	switch {
	case r.left <= 0:
	case field.IsMap():
		for range r.length() {
			key := r.scalar(field.MapKey()).MapKey()
			m.Mutable(field).Map().Set(key, r.value(field.MapValue(), depth))
		}
	case field.IsList():
		list := m.Mutable(field).List()
		n := r.length()
		for range min(n, 4) {
			list.Append(r.value(field, depth))
		}
		for i := 4; i < n; i++ { // the rest are the same ones again
			list.Append(list.Get(i % 4))
		}
	default:
		m.Set(field, r.value(field, depth))
	}
}

// length is mostly 1 to 4, sometimes 0, seldom many.
func (r *Random) length() int {
	n := r.byte()
	if n == 255 {
		r.left -= many
		return many
	}
	return int(n) % 5
}

func (r *Random) value(field protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	r.left--
	if field.Message() != nil {
		return protoreflect.ValueOfMessage(r.message(field.Message(), depth-1))
	}
	return r.scalar(field)
}

func (r *Random) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		return scalar(field, r.text(), 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.byte() % 12))
	default:
		return scalar(field, "", r.number())
	}
}

// text is one of Words, a run of a byte, or whatever comes.
func (r *Random) text() string {
	kind := int(r.byte())
	if kind < len(r.Words) {
		return r.Words[kind]
	}
	switch kind % 4 {
	case 0:
		return ""
	case 1: // as long as a digest
		digest := [32]byte{r.byte()}
		return string(digest[:])
	}
	n := min(int(r.byte()), len(r.data))
	text := string(r.data[:n])
	r.data = r.data[n:]
	return text
}

// number is mostly small, else any of its 64 bits.
func (r *Random) number() int64 {
	n := r.byte()
	if n < 240 {
		return int64(n) % 8
	}
	var raw [8]byte
	for i := range raw {
		raw[i] = r.byte()
	}
	return int64(binary.LittleEndian.Uint64(raw[:]))
}
