// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"
)

// Handler answers one kind of request.
type Handler func(ctx context.Context, argument json.RawMessage) (any, error)

// Handlers are what a child can do, by name.
type Handlers map[string]Handler

// Do makes a Handler of a function with an argument and a result.
func Do[A, R any](f func(ctx context.Context, argument A) (R, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var argument A
		if err := json.Unmarshal(raw, &argument); err != nil {
			return nil, err
		}
		return f(ctx, argument)
	}
}

// None is an argument or a result that says nothing.
type None struct{}

type request struct {
	Do       string          `json:"do"`
	Argument json.RawMessage `json:"argument"`
}

type reply struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Serve answers requests until the parent closes the connection, which is no
// error. It adds what every child can do: see CPU, Collect and Profile of
// Process.
func Serve(ctx context.Context, in io.Reader, out io.Writer, handlers Handlers) error {
	profiler := &profiler{}
	all := Handlers{
		"cpu":     Do(func(context.Context, None) (time.Duration, error) { return cpu() }),
		"collect": Do(func(context.Context, None) (Heap, error) { return collect() }),
		"profile": Do(profiler.do),
	}
	maps.Copy(all, handlers)
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading from the parent: %w", err)
		}
		if err := encoder.Encode(answer(ctx, all[r.Do], r)); err != nil {
			return fmt.Errorf("answering the parent: %w", err)
		}
	}
}

func answer(ctx context.Context, handler Handler, r request) reply {
	if handler == nil {
		return reply{Error: fmt.Sprintf("unknown request %q", r.Do)}
	}
	result, err := handler(ctx, r.Argument)
	if err != nil {
		return reply{Error: err.Error()}
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{Result: raw}
}
