// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ignore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/itchyny/gojq"
)

// A jq expression gets a second, and may find so many places.
const (
	jqTime   = time.Second
	jqPlaces = 10_000
)

// byJQ finds places by a path expression of jq.
func byJQ(ctx context.Context, object map[string]any, text string) ([]Path, error) {
	query, err := gojq.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("it is no jq expression: %w", err)
	}
	if err := tame(query); err != nil {
		return nil, err
	}
	return run(ctx, object, query.String())
}

// run evaluates a path expression on a copy of the object.
func run(ctx context.Context, object map[string]any, expression string) ([]Path, error) {
	query, err := gojq.Parse("path(" + expression + ")")
	if err != nil {
		return nil, fmt.Errorf("it is no path expression: %w", err)
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, fmt.Errorf("it does not compile: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, jqTime)
	defer cancel()
	results := code.RunWithContext(timed, readable(object))
	var found []Path
	for range jqPlaces {
		result, more := results.Next()
		if !more {
			return unique(found), nil
		}
		if err, failed := result.(error); failed {
			if timed.Err() != nil {
				return nil, fmt.Errorf("it took longer than %s", jqTime)
			}
			return nil, fmt.Errorf("it cannot be evaluated on this manifest: %w", err)
		}
		place, _ := result.([]any)
		found = append(found, resolve(object, nil, place)...)
	}
	return nil, fmt.Errorf("it stands for more than %d places", jqPlaces)
}

// readable returns a copy of a value with integers as jq's machine has them.
func readable(value any) any {
	switch v := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for key, below := range v {
			copied[key] = readable(below)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, item := range v {
			copied[i] = readable(item)
		}
		return copied
	case int64:
		return int(v)
	}
	return value
}

// resolve turns a place as jq tells it into places that the object has: indices may count from the end, and a slice stands for
// the items in it.
func resolve(at any, before Path, place []any) []Path {
	if len(place) == 0 {
		return []Path{before}
	}
	items, isList := at.([]any)
	element, rest := place[0], place[1:]
	if bounds, ok := element.(map[string]any); ok {
		if !isList {
			return nil
		}
		return resolveSlice(items, before, bounds, rest)
	}
	if index, ok := element.(int); ok && isList && index < 0 {
		element = index + len(items)
	}
	below, ok := descend(at, element)
	if !ok {
		return nil
	}
	return resolve(below, append(slices.Clone(before), element), rest)
}

func resolveSlice(items []any, before Path, bounds map[string]any, rest []any) []Path {
	bound := func(name string, otherwise int) int {
		n, ok := bounds[name].(int)
		if !ok {
			n = otherwise
		}
		if n < 0 {
			n += len(items)
		}
		return min(max(n, 0), len(items))
	}
	from, to := bound("start", 0), bound("end", len(items))
	var found []Path
	for i := from; i < to && len(rest) == 0; i++ {
		found = append(found, append(slices.Clone(before), i))
	}
	if index, ok := first(rest).(int); ok { // counted within the slice
		if index < 0 {
			index += to - from
		}
		if index >= 0 && from+index < to {
			return resolve(items, before, append([]any{from + index}, rest[1:]...))
		}
	}
	return found
}

func first(list []any) any {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// errUntamed is why an expression is refused that would run.
var errUntamed = errors.New("here jq may read, select and compare, without arithmetic, loops, definitions, and new texts, arrays or objects")

// functions are those that give back no more than they get, in a time that grows no faster; so contains is not among them, and
// test is. What they are given is what stands in the manifest, since nothing else makes values.
func functions() []string {
	return []string{
		"select", "has", "in", "length", "type", "not", "empty", "any", "all", "first", "last", "IN", "keys",
		"test", "startswith", "endswith", "ltrimstr", "rtrimstr", "ascii_downcase", "ascii_upcase", "tostring", "tonumber",
		"values", "nulls", "booleans", "numbers", "strings", "arrays", "objects", "iterables", "scalars", "recurse", "true", "false", "null",
	}
}

// operators are those that make nothing new.
func operators() []gojq.Operator {
	return []gojq.Operator{
		0, gojq.OpPipe, gojq.OpComma, gojq.OpAlt, gojq.OpAnd, gojq.OpOr,
		gojq.OpEq, gojq.OpNe, gojq.OpGt, gojq.OpLt, gojq.OpGe, gojq.OpLe,
	}
}

// tame refuses expressions that could take the agent's memory, or its time in steps that cannot be interrupted: doubling a text
// forty times needs no more than a line.
func tame(query *gojq.Query) error {
	switch {
	case query == nil:
		return nil
	case len(query.FuncDefs) > 0, len(query.Imports) > 0, query.Meta != nil, !slices.Contains(operators(), query.Op):
		return errUntamed
	}
	return cmp.Or(tame(query.Left), tame(query.Right), tameTerm(query.Term))
}

func tameTerm(term *gojq.Term) error {
	if term == nil {
		return nil
	}
	if term.Object != nil || term.Array != nil || term.Format != "" || term.Reduce != nil || term.Foreach != nil || term.Label != nil {
		return errUntamed
	}
	var problems []error
	if term.Unary != nil {
		problems = append(problems, tameTerm(term.Unary.Term))
	}
	if term.If != nil {
		problems = append(problems, tame(term.If.Cond), tame(term.If.Then), tame(term.If.Else))
		for _, branch := range term.If.Elif {
			problems = append(problems, tame(branch.Cond), tame(branch.Then))
		}
	}
	if term.Try != nil {
		problems = append(problems, tame(term.Try.Body), tame(term.Try.Catch))
	}
	for _, suffix := range term.SuffixList {
		problems = append(problems, tameIndex(suffix.Index))
	}
	problems = append(problems, tameIndex(term.Index), tameText(term.Str), tameFunction(term.Func), tame(term.Query))
	return cmp.Or(problems...)
}

func tameIndex(index *gojq.Index) error {
	if index == nil {
		return nil
	}
	return cmp.Or(tameText(index.Str), tame(index.Start), tame(index.End))
}

func tameText(text *gojq.String) error {
	if text != nil && len(text.Queries) > 0 {
		return errUntamed
	}
	return nil
}

func tameFunction(function *gojq.Func) error {
	if function == nil || strings.HasPrefix(function.Name, "$") {
		return nil
	}
	if !slices.Contains(functions(), function.Name) || function.Name == "recurse" && len(function.Args) > 0 {
		return fmt.Errorf("%s/%d: %w", function.Name, len(function.Args), errUntamed)
	}
	for _, argument := range function.Args {
		if err := tame(argument); err != nil {
			return err
		}
	}
	return nil
}
