// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/duration"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// The forms of -o. A JSON path is jsonpath=TEMPLATE.
const (
	Table = "table"
	Wide  = "wide"
	JSON  = "json"
	YAML  = "yaml"
	Name  = "name"

	pathPrefix = "jsonpath="
)

// Output is the form that -o asks for.
type Output struct {
	form string
	path *jsonpath.JSONPath
	o    *Options
}

// Bind adds -o, with the table as default.
func (f *Output) Bind(o *Options, cmd *cobra.Command) {
	f.form, f.o = Table, o
	cmd.Flags().VarP(f, "output", "o", "form of the output; docs/cli.md has the fields of json")
	forms := cobra.FixedCompletions([]cobra.Completion{Table, Wide, JSON, YAML, Name, pathPrefix}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("output", forms); err != nil {
		panic(err) // the flag is defined above
	}
}

// String is the flag's text.
func (f *Output) String() string { return f.form }

// Type names the flag's values in help.
func (f *Output) Type() string { return "table|wide|json|yaml|name|jsonpath=…" }

// Set reads the flag.
func (f *Output) Set(text string) error {
	switch text {
	case Table, Wide:
	case JSON, YAML, Name:
		f.o.machine = true
	default:
		template, ok := strings.CutPrefix(text, pathPrefix)
		if !ok {
			return fmt.Errorf("%q is not one of table, wide, json, yaml, name, jsonpath=TEMPLATE", text)
		}
		f.o.machine = true
		f.path = jsonpath.New("output").AllowMissingKeys(true)
		if err := f.path.Parse(template); err != nil {
			return fmt.Errorf("%q is no JSON path as kubectl takes it: %w", template, err)
		}
	}
	f.form = text
	return nil
}

// object tells whether whole objects are asked for, and not rows or names.
func (f *Output) object() bool { return f.form == JSON || f.form == YAML || f.path != nil }

// Column is one column of a table; Wide ones show with -o wide only. What a Clock
// shows moves by itself, and is no news for a watch.
type Column[T any] struct {
	Head  string
	Wide  bool
	Clock bool
	Of    func(T) string
}

// Kind is how items of one kind are shown.
type Kind[T any] struct {
	Name    string // for -o name: kind/name
	ID      func(T) string
	Columns []Column[T]
	Object  func(T) (any, error) // for json and yaml
}

// Printer prints items of one kind in the form that was asked for. Rows that a
// watch adds later line up with those before.
type Printer[T any] struct {
	kind  Kind[T]
	form  *Output
	out   io.Writer
	table table
	count int // documents printed
}

// To makes a printer.
func (k Kind[T]) To(o *Options, form *Output) *Printer[T] {
	return &Printer[T]{kind: k, form: form, out: o.Out}
}

// List prints all items. An empty table says so.
func (p *Printer[T]) List(items []T) error {
	if p.form.object() {
		objects := make([]any, 0, len(items))
		for _, item := range items {
			object, err := p.kind.Object(item)
			if err != nil {
				return err
			}
			objects = append(objects, object)
		}
		return p.encode(map[string]any{"items": objects})
	}
	if len(items) == 0 && p.form.form != Name {
		_, err := fmt.Fprintln(p.out, "none")
		return err
	}
	return p.rows(items...)
}

// One prints one item, in a watch one after the other.
func (p *Printer[T]) One(item T) error {
	if !p.form.object() {
		return p.rows(item)
	}
	object, err := p.kind.Object(item)
	if err != nil {
		return err
	}
	return p.encode(object)
}

// Removed tells that an item is gone.
func (p *Printer[T]) Removed(id string) error {
	if p.form.object() {
		return p.encode(map[string]any{"removed": p.kind.Name + "/" + id})
	}
	_, err := fmt.Fprintf(p.out, "%s/%s removed\n", p.kind.Name, id)
	return err
}

// news is what of an item is worth a new line in a watch. Objects always are.
func (p *Printer[T]) news(item T) string {
	if p.form.object() {
		return ""
	}
	var cells []string
	for _, c := range p.kind.Columns {
		if !c.Clock && (!c.Wide || p.form.form == Wide) {
			cells = append(cells, c.Of(item))
		}
	}
	return strings.Join(cells, "\x00")
}

func (p *Printer[T]) rows(items ...T) error {
	if p.form.form == Name {
		for _, item := range items {
			if _, err := fmt.Fprintf(p.out, "%s/%s\n", p.kind.Name, p.kind.ID(item)); err != nil {
				return err
			}
		}
		return nil
	}
	var heads []string
	rows := make([][]string, len(items))
	for _, c := range p.kind.Columns {
		if c.Wide && p.form.form != Wide {
			continue
		}
		heads = append(heads, c.Head)
		for i, item := range items {
			rows[i] = append(rows[i], orDash(c.Of(item)))
		}
	}
	return p.table.print(p.out, heads, rows)
}

func (p *Printer[T]) encode(object any) error {
	p.count++
	switch {
	case p.form.path != nil:
		if err := p.form.path.Execute(p.out, object); err != nil {
			return fmt.Errorf("-o %s: %w", p.form.form, err)
		}
		_, err := fmt.Fprintln(p.out)
		return err
	case p.form.form == YAML:
		raw, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		if p.count > 1 {
			raw = append([]byte("---\n"), raw...)
		}
		_, err = p.out.Write(raw)
		return err
	}
	encoder := json.NewEncoder(p.out)
	encoder.SetEscapeHTML(false)
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

// Raw is JSON text as an object for json and yaml, without the bookkeeping of
// field managers.
func Raw(text string) (any, error) {
	object := map[string]any{}
	if err := utiljson.Unmarshal([]byte(text), &object); err != nil { // an int64 stays one
		return nil, fmt.Errorf("the hub sent what is no JSON: %w", err)
	}
	if metadata, ok := object["metadata"].(map[string]any); ok {
		delete(metadata, "managedFields")
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
func (o *Options) Age(then Timestamp) string {
	if then == nil || !then.IsValid() || then.GetSeconds() == 0 {
		return ""
	}
	return duration.HumanDuration(o.Now().Sub(then.AsTime()))
}

// Until is the time until then, "expired" once it has passed.
func (o *Options) Until(then Timestamp) string {
	switch now := o.Now(); {
	case then == nil || !then.IsValid() || then.GetSeconds() == 0:
		return ""
	case !then.AsTime().After(now):
		return "expired"
	default:
		return duration.HumanDuration(then.AsTime().Sub(now))
	}
}
