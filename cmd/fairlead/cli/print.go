// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

// Output is the form that -o asks for.
type Output string

// The forms of -o.
const (
	Table Output = "table"
	Wide  Output = "wide"
	JSON  Output = "json"
	YAML  Output = "yaml"
	Name  Output = "name"
)

// String is the flag's text.
func (o *Output) String() string { return string(*o) }

// Type names the flag's values in help.
func (o *Output) Type() string { return "table|wide|json|yaml|name" }

// Set reads the flag.
func (o *Output) Set(text string) error {
	for _, known := range []Output{Table, Wide, JSON, YAML, Name} {
		if text == string(known) {
			*o = known
			return nil
		}
	}
	return fmt.Errorf("%q is not one of table, wide, json, yaml, name", text)
}

// Bind adds -o with the table as default.
func (o *Output) Bind(flags *pflag.FlagSet) {
	*o = Table
	flags.VarP(o, "output", "o", "form of the output")
}

// Column is one column of a table; Wide ones show with -o wide only.
type Column[T any] struct {
	Head string
	Wide bool
	Of   func(T) string
}

// Printer prints items of one kind in the form that was asked for. With a
// table it writes the head once, so that a watch can go on printing rows.
type Printer[T any] struct {
	Kind    string // for -o name: kind/name
	Columns []Column[T]
	Name    func(T) string
	Object  func(T) (any, error) // for json and yaml

	form   Output
	out    io.Writer
	table  *tabwriter.Writer
	headed bool
}

// To sets where and how to print.
func (p *Printer[T]) To(out io.Writer, form Output) *Printer[T] {
	p.out, p.form = out, form
	p.table = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	return p
}

// List prints all items. An empty table says so.
func (p *Printer[T]) List(items []T) error {
	if p.form == JSON || p.form == YAML {
		objects := make([]any, 0, len(items))
		for _, item := range items {
			object, err := p.Object(item)
			if err != nil {
				return err
			}
			objects = append(objects, object)
		}
		return p.encode(map[string]any{"items": objects})
	}
	if len(items) == 0 && p.form != Name {
		_, err := fmt.Fprintln(p.out, "none")
		return err
	}
	for _, item := range items {
		if err := p.row(item); err != nil {
			return err
		}
	}
	return p.table.Flush()
}

// One prints one item, in a watch one after the other.
func (p *Printer[T]) One(item T) error {
	if p.form == JSON || p.form == YAML {
		object, err := p.Object(item)
		if err != nil {
			return err
		}
		return p.encode(object)
	}
	if err := p.row(item); err != nil {
		return err
	}
	return p.table.Flush()
}

func (p *Printer[T]) row(item T) error {
	if p.form == Name {
		_, err := fmt.Fprintf(p.out, "%s/%s\n", p.Kind, p.Name(item))
		return err
	}
	var heads, cells []string
	for _, c := range p.Columns {
		if c.Wide && p.form != Wide {
			continue
		}
		heads = append(heads, c.Head)
		cells = append(cells, orDash(c.Of(item)))
	}
	if !p.headed {
		p.headed = true
		if _, err := fmt.Fprintln(p.table, strings.Join(heads, "\t")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(p.table, strings.Join(cells, "\t"))
	return err
}

func (p *Printer[T]) encode(object any) error {
	if p.form == YAML {
		raw, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		_, err = p.out.Write(raw)
		return err
	}
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(object)
}

// Message is a proto message as an object for json and yaml.
func Message(m proto.Message) (any, error) {
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return Raw(string(raw))
}

// Raw is JSON text as an object for json and yaml.
func Raw(text string) (any, error) {
	var object any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return nil, fmt.Errorf("the hub sent what is no JSON: %w", err)
	}
	return object, nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// Timestamp is what protobuf timestamps have; nil and zero print as empty.
type Timestamp interface {
	AsTime() time.Time
	IsValid() bool
	GetSeconds() int64
}

// Age is the time since then, as kubectl prints it.
func Age(now time.Time, then Timestamp) string {
	if then == nil || !then.IsValid() || then.GetSeconds() == 0 {
		return ""
	}
	return duration.HumanDuration(now.Sub(then.AsTime()))
}

// Until is the time until then, "expired" once it has passed.
func Until(now time.Time, then Timestamp) string {
	switch {
	case then == nil || !then.IsValid() || then.GetSeconds() == 0:
		return ""
	case !then.AsTime().After(now):
		return "expired"
	}
	return duration.HumanDuration(then.AsTime().Sub(now))
}
