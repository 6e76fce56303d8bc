// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/wire"
)

// FuzzStatusPatch: whatever status an agent sends, and whatever is stored, the
// patch from one to the other, applied as RFC 7396 says, gives what was sent;
// and so does the patch that is made without a look at what is stored, of an
// object that has only what ManifestWorks have.
func FuzzStatusPatch(f *testing.F) {
	f.Add([]byte(`{"conditions":[{"type":"Applied"}],"resourceStatus":{"manifests":[]}}`), []byte(`{"conditions":[]}`))
	f.Add([]byte(`{"resourceStatus":{"manifests":[1]},"a":{"b":{"c":1}}}`), []byte(`{"resourceStatus":{},"a":{"b":1}}`))
	f.Add([]byte(`{"resourceStatus":null}`), []byte(`{"resourceStatus":5,"a":null}`))
	f.Fuzz(func(t *testing.T, old, sent []byte) {
		stored, err := wire.CanonicalStatus(old)
		if err != nil {
			return
		}
		canonical, err := wire.CanonicalStatus(sent)
		if err != nil {
			return
		}
		have, err := storedStatus([]byte(`{"status":` + string(stored) + `}`))
		require.NoError(t, err)
		wanted, err := decodeObject(canonical)
		require.NoError(t, err)
		have, _ = withoutNulls(have).(map[string]any) // an apiserver stores none that a patch brought
		got := merge(have, roundTrip(t, mergePatch(have, wanted)))
		require.Equal(t, withoutNulls(wanted), withoutNulls(got))
		require.False(t, leavesOver(got, wanted))

		patch, err := withoutAbsent(canonical)
		require.NoError(t, err)
		known := map[string]any{"conditions": []any{"x"}, "resourceStatus": map[string]any{"manifests": []any{"x"}}}
		require.Equal(t, withoutNulls(wanted), withoutNulls(merge(known, roundTrip(t, patch))))
	})
}

// roundTrip is a patch as the apiserver decodes it.
func roundTrip(t *testing.T, patch map[string]any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(patch)
	require.NoError(t, err)
	fields, err := decodeObject(raw)
	require.NoError(t, err)
	return fields
}

// merge is RFC 7396, section 2.
func merge(target any, patch map[string]any) map[string]any {
	old, _ := target.(map[string]any)
	out := map[string]any{}
	maps.Copy(out, old)
	for key, value := range patch {
		if value == nil {
			delete(out, key)
			continue
		}
		if fields, ok := value.(map[string]any); ok {
			out[key] = merge(out[key], fields)
			continue
		}
		out[key] = value
	}
	return out
}

// withoutNulls leaves out members that are null, at any depth outside of lists: a
// merge patch cannot store one.
func withoutNulls(value any) any {
	fields, ok := value.(map[string]any)
	if !ok {
		return value
	}
	out := map[string]any{}
	for key, member := range fields {
		if member != nil {
			out[key] = withoutNulls(member)
		}
	}
	return out
}
