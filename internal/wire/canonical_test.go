// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestIsCanonical(t *testing.T) {
	for status, want := range map[string]bool{
		`{}`:                    true,
		`{"a":1,"b":[],"c":{}}`: true,
		`{"a":[{"x":"a, b: {c}","y":null},{"x":true}],"b":{"a":-1.5e3}}`: true,
		`{"a":"\"quoted\" \\ \n \u003cb\u003e"}`:                         true,
		`{"conditions":[{"type":"Applied"}],"resourceStatus":{}}`:        true,

		``: false, `null`: false, `[]`: false, `{"a":1`: false, `{"a":1}x`: false, // no status at all
		`{"b":1,"a":1}`: false, `{"a":1,"a":2}`: false, `{"a":{"b":1,"a":1}}`: false, // order
		`{"a": 1}`: false, "{\"a\":1}\n": false, // space
		`{"a":"<"}`: false, `{"a":"\u0041"}`: false, `{"a":"ü"}`: false, `{"a":"\/"}`: false, `{"\n":1}`: false, // would be, or may be, written otherwise
		`{"conditions":[]}`: false, `{"conditions":[{"type":"Delivered"}]}`: false, // leaves something out
	} {
		require.Equal(t, want, isCanonical([]byte(status)), status)
	}
}

func TestIsCanonical_is_never_wrong(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("ab\"\\<>&/ü\n\t\u2028 {}[]:,")), 0, 4, -1)
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			switch n := rapid.IntRange(0, 6).Draw(t, "kind"); {
			case n == 0 && depth > 0:
				return rapid.MapOfN(text, value(depth-1), 0, 4).Draw(t, "object")
			case n == 1 && depth > 0:
				return rapid.SliceOfN(value(depth-1), 0, 3).Draw(t, "list")
			case n == 2:
				return rapid.IntRange(-5, 5).Draw(t, "number")
			case n == 3:
				return rapid.Bool().Draw(t, "truth")
			default:
				return text.Draw(t, "text")
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.MapOfN(rapid.OneOf(text, rapid.Just("conditions")), value(3), 0, 4).Draw(t, "status")
		var b strings.Builder
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(rapid.Bool().Draw(t, "escape"))
		require.NoError(t, encoder.Encode(fields))
		raw := []byte(strings.TrimSpace(b.String()))
		if cut := rapid.IntRange(0, 20).Draw(t, "cut"); cut < len(raw) && rapid.Bool().Draw(t, "damaged") {
			raw = append(raw[:cut:cut], raw[cut+1:]...)
		}
		want, err := canonicalized(raw)
		if isCanonical(raw) {
			require.NoError(t, err)
			require.Equal(t, string(want), string(raw))
		}
	})
}

func BenchmarkCanonicalStatus(b *testing.B) {
	var conditions []string
	for range 12 {
		conditions = append(conditions, `{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Resource is available","observedGeneration":1,"reason":"Measured","status":"True","type":"Available"}`)
	}
	status := []byte(`{"conditions":[` + strings.Join(conditions, ",") + `]}`)
	require.True(b, isCanonical(status))
	b.Run("canonical", func(b *testing.B) {
		for b.Loop() {
			_, _ = CanonicalStatus(status)
		}
	})
	b.Run("sorted anew", func(b *testing.B) {
		for b.Loop() {
			_, _ = canonicalized(status)
		}
	})
}
