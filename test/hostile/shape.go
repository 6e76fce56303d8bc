// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Shape is one request that no well-behaved client sends.
type Shape struct {
	Name  string
	Bytes []byte
}

// Shapes are bad requests of one type; none is larger than most bytes, but the
// one that is called too large.
func Shapes(d protoreflect.MessageDescriptor, most int) []Shape {
	shapes := []Shape{
		{"zero value", nil},
		{"no message", []byte{0xff, 0xff, 0xff}},
		{"unknown fields", protowire.AppendBytes(protowire.AppendTag(nil, 4000, protowire.BytesType), bytes.Repeat([]byte{7}, 1000))},
		TooLarge(most),
		{"filled with nonsense", encode(filled(d, "\x00../\u202e x", -1, 6))},
		{"filled with zeros", encode(filled(d, "", 0, 6))},
		{"filled with the largest", encode(filled(d, strings.Repeat("x", 300), math.MaxInt64, 6))},
	}
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		shapes = append(shapes, shapesOf(d, field, most)...)
	}
	for i := range d.Oneofs().Len() {
		var all []byte // every arm, one after the other; the last one counts
		oneof := d.Oneofs().Get(i)
		for j := range oneof.Fields().Len() {
			all = append(all, encode(only(d, oneof.Fields().Get(j), 6))...)
		}
		shapes = append(shapes, Shape{"every arm of " + string(oneof.Name()), all})
	}
	return shapes
}

// TooLarge is a well-formed request of somewhat more than most bytes.
func TooLarge(most int) Shape {
	return Shape{"too large", protowire.AppendBytes(protowire.AppendTag(nil, 4000, protowire.BytesType), make([]byte, most+1))}
}

// shapesOf are those that attack one field.
func shapesOf(d protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, most int) []Shape {
	name := string(field.Name())
	full := encode(only(d, field, 6))
	shapes := []Shape{
		{"only " + name, full},
		{name + " twice", append(bytes.Clone(full), full...)}, // of a map: one key twice
		{name + " of another type", protowire.AppendFixed32(protowire.AppendTag(nil, field.Number(), protowire.Fixed32Type), 7)},
	}
	if field.Message() != nil {
		empty := protowire.AppendBytes(protowire.AppendTag(nil, field.Number(), protowire.BytesType), nil)
		shapes = append(shapes, Shape{name + " empty", empty})
		for depth := 1; depth <= 3; depth++ {
			shapes = append(shapes, Shape{fmt.Sprintf("%s %d deep", name, depth), encode(only(d, field, depth))})
		}
	}
	if field.IsList() && len(full) > 0 {
		shapes = append(shapes, Shape{name + " without end", bytes.Repeat(full, max(1, most/len(full)))})
		if field.Message() != nil {
			empty := protowire.AppendBytes(protowire.AppendTag(nil, field.Number(), protowire.BytesType), nil)
			shapes = append(shapes, Shape{name + " of nothing without end", bytes.Repeat(empty, most/len(empty))})
		}
	}
	return shapes
}

// only has one field set, with all that is in it down to some depth.
func only(d protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, depth int) proto.Message {
	m := dynamicpb.NewMessage(d)
	fill(m, field, "web", 1, depth)
	return m
}

// filled has every field set; of a oneof its last.
func filled(d protoreflect.MessageDescriptor, text string, number int64, depth int) proto.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		fill(m, d.Fields().Get(i), text, number, depth)
	}
	return m
}

func fill(m protoreflect.Message, field protoreflect.FieldDescriptor, text string, number int64, depth int) {
	sub := func(d protoreflect.MessageDescriptor) protoreflect.Value {
		if depth <= 1 {
			return protoreflect.ValueOfMessage(dynamicpb.NewMessage(d))
		}
		return protoreflect.ValueOfMessage(filled(d, text, number, depth-1).ProtoReflect())
	}
	switch {
	case field.IsMap():
		value := field.MapValue()
		if value.Message() != nil {
			m.Mutable(field).Map().Set(scalar(field.MapKey(), text, number).MapKey(), sub(value.Message()))
			return
		}
		m.Mutable(field).Map().Set(scalar(field.MapKey(), text, number).MapKey(), scalar(value, text, number))
	case field.IsList() && field.Message() != nil:
		m.Mutable(field).List().Append(sub(field.Message()))
	case field.IsList():
		m.Mutable(field).List().Append(scalar(field, text, number))
	case field.Message() != nil:
		m.Set(field, sub(field.Message()))
	default:
		m.Set(field, scalar(field, text, number))
	}
}

// scalar is text or number as a field has it; numbers are cut to size.
func scalar(field protoreflect.FieldDescriptor, text string, number int64) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.ToValidUTF8(text, "?"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number&1 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(number))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number))
	default: // doubles; messages and groups do not come here
		return protoreflect.ValueOfFloat64(float64(number))
	}
}

// encode never fails: every string above is UTF-8.
func encode(m proto.Message) []byte {
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return raw
}
