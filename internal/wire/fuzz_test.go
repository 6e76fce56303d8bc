// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/identity"
)

// FuzzScan holds the scanner against encoding/json: it reads whatever is JSON,
// sees the same names in it, and takes nothing away from it but noise.
func FuzzScan(f *testing.F) {
	f.Add([]byte(served))
	f.Add([]byte(`{"metadata":{"name":"a","uid":"u"},"spec":null}`))
	f.Add([]byte(`{"type":"ADDED","object":` + served + `}`))
	f.Add([]byte(`{"kind":"List","metadata":{"resourceVersion":"7","continue":"x"},"items":[` + served + `]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var members map[string]json.RawMessage
		isObject := json.Unmarshal(raw, &members) == nil && members != nil
		count := 0
		err := eachMember(raw, func(_, _ []byte) error { count++; return nil })
		if isObject {
			require.NoError(t, err, "%q is a JSON object", raw)
			require.GreaterOrEqual(t, count, len(members))
		}
		if kind, object, err := ScanEvent(raw); err == nil && isObject && count == len(members) && !bytes.ContainsRune(raw, '\\') {
			require.Equal(t, strings.Trim(string(members["type"]), `"`), kind)
			require.JSONEq(t, string(members["object"]), string(object))
		}
		items := 0
		if _, err := ScanList(raw, func([]byte) error { items++; return nil }); err == nil && isObject && count == len(members) && !bytes.ContainsRune(raw, '\\') {
			var list []json.RawMessage
			_ = json.Unmarshal(members["items"], &list)
			require.Len(t, list, items)
		}
		s, err := Scan(raw)
		if err != nil {
			return
		}
		require.Equal(t, len(s.Delivered()), s.Size())
		if !isObject {
			return
		}
		require.True(t, json.Valid(s.Delivered()), "%q became %q", raw, s.Delivered())
		again, err := Scan(s.Delivered())
		require.NoError(t, err)
		require.Equal(t, string(s.Delivered()), string(again.Delivered()), "nothing is left that is noise")
		require.Equal(t, s.Digest, again.Digest)
		require.Equal(t, s.Namespace+"/"+s.Name+" "+s.UID, again.Namespace+"/"+again.Name+" "+again.UID)
		require.Equal(t, s.Generation, again.Generation)
		require.False(t, again.Finalizer)
	})
}

// content is all of an object that counts.
type content struct {
	spec                                    []byte
	uid, label, annotation, finalizer, more string
	generation                              int64
}

// noise is what changes without anybody changing the object.
type noise struct {
	manager, applied, status string
	resourceVersion          uint64
	ours                     byte // where our finalizer is: nowhere, first, last
	managed                  bool
}

// served is the object as an apiserver writes it: JSON by encoding/json, with
// sorted keys.
func (c content) served(t *testing.T, n noise) []byte {
	t.Helper()
	metadata := map[string]any{
		"name": "web", "namespace": "c1", "uid": c.uid, "generation": c.generation, "resourceVersion": strconv.FormatUint(n.resourceVersion, 10),
		"labels": map[string]any{"l": c.label},
	}
	annotations := map[string]any{}
	if c.annotation != "" {
		annotations["a"] = c.annotation
	}
	if n.applied != "" {
		annotations[lastApplied] = n.applied
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	var finalizers []string
	if c.finalizer != "" {
		finalizers = []string{c.finalizer}
	}
	switch n.ours % 3 {
	case 1:
		finalizers = append([]string{identity.ManifestWorkFinalizer}, finalizers...)
	case 2:
		finalizers = append(finalizers, identity.ManifestWorkFinalizer)
	}
	if len(finalizers) > 0 {
		metadata["finalizers"] = finalizers
	}
	if n.managed {
		metadata["managedFields"] = []any{map[string]any{"manager": n.manager, "fieldsV1": map[string]any{n.manager: map[string]any{}}}}
	}
	object := map[string]any{"apiVersion": "v1", "kind": "ManifestWork", "metadata": metadata, "spec": json.RawMessage(c.spec), "zmore": c.more}
	if n.status != "" {
		object["status"] = map[string]any{"x": n.status}
	}
	raw, err := json.Marshal(object)
	require.NoError(t, err)
	return raw
}

// asJSON is a text of what is not JSON.
func asJSON(raw []byte) []byte {
	if json.Valid(raw) {
		return raw
	}
	text, _ := json.Marshal(string(raw))
	return text
}

// FuzzNoise changes noise, which never changes the digest of an object, and one
// thing that is not noise, which always does. What is delivered is the object
// without its noise, to the last field.
func FuzzNoise(f *testing.F) {
	f.Add([]byte(`{"a":1}`), []byte(`{"a":2}`), "x", "y", "kubectl", uint64(7), int64(3), byte(0x15))
	f.Add([]byte(`{"a":"}\"{"}`), []byte(`{"a":"}\"{" }`), `","resourceVersion":"1`, `\`, `{"spec":null},"status":{`, uint64(0), int64(-1), byte(0xff))
	f.Add([]byte(`[]`), []byte(`null`), lastApplied, identity.ManifestWorkFinalizer, "managedFields", uint64(1)<<63, int64(1)<<62, byte(0x2a))
	f.Fuzz(func(t *testing.T, spec, other []byte, one, two, noisy string, rv uint64, generation int64, bits byte) {
		if one == identity.ManifestWorkFinalizer {
			return
		}
		spec, other = asJSON(spec), asJSON(other)
		one, two, noisy = strings.ToValidUTF8(one, "?"), strings.ToValidUTF8(two, "?"), strings.ToValidUTF8(noisy, "?")
		is := content{spec: spec, uid: "u" + one, label: one, annotation: one, finalizer: one, more: one, generation: generation}
		quiet := noise{}
		loud := noise{manager: noisy, applied: noisy, status: noisy, resourceVersion: rv, ours: bits % 3, managed: bits&4 != 0}
		s, err := Scan(is.served(t, loud))
		require.NoError(t, err)
		calm, err := Scan(is.served(t, quiet))
		require.NoError(t, err)
		require.Equal(t, calm.Digest, s.Digest, "noise is not content")
		require.Equal(t, string(calm.Delivered()), string(s.Delivered()))
		require.Equal(t, rv, s.ResourceVersion)
		require.Equal(t, bits%3 != 0, s.Finalizer)

		// What is delivered is the quiet object, but for the resourceVersion.
		expected := bytes.Replace(is.served(t, quiet), []byte(`"resourceVersion":"0",`), nil, 1)
		require.Equal(t, string(expected), string(s.Delivered()))

		changed := is
		switch bits >> 3 % 7 {
		case 0:
			changed.spec = other
		case 1:
			changed.uid = "u" + two
		case 2:
			changed.label = two
		case 3:
			changed.annotation = two
		case 4:
			changed.finalizer = two
		case 5:
			changed.more = two
		default:
			changed.generation++
		}
		if changed.finalizer == identity.ManifestWorkFinalizer {
			return
		}
		differs := !bytes.Equal(is.served(t, quiet), changed.served(t, quiet))
		c, err := Scan(changed.served(t, loud))
		require.NoError(t, err)
		require.Equal(t, differs, c.Digest != s.Digest, "all else is content")
	})
}

// FuzzStatus: the canonical form of a status is itself canonical, says what the
// status says but for the hub's own condition, and is what both sides digest,
// however they came by it.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"conditions":[{"type":"Delivered"},{"type":"Applied","x":1.0}],"a":"<"}`))
	f.Add([]byte(`{"b":1,"a":[{"b":2,"a":1}]}`))
	f.Add([]byte(` null `))
	f.Add([]byte("{\"a\":\"\\u2028\xff\",\"a\":1e400}"))
	f.Fuzz(func(t *testing.T, status []byte) {
		canonical, err := CanonicalStatus(status)
		slow, slowErr := canonicalized(status)
		require.Equal(t, slowErr == nil, err == nil)
		if err != nil {
			require.ErrorIs(t, err, ErrScan)
			return
		}
		require.Equal(t, string(slow), string(canonical), "the short way is right")
		again, err := CanonicalStatus(canonical)
		require.NoError(t, err)
		require.Equal(t, string(canonical), string(again))
		digest, err := StatusDigest(status)
		require.NoError(t, err)
		scanned, undelivered := scannedStatus(canonical)
		require.Equal(t, digest, scanned, "the index digests what an apiserver stored of it")
		if !undelivered && len(bytes.TrimSpace(status)) > 0 && !bytes.Contains(status, []byte(`conditions`)) && string(canonical) != "{}" {
			require.Equal(t, decoded(t, status), decoded(t, canonical))
		}
	})
}

func decoded(t *testing.T, raw []byte) (fields map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&fields))
	return fields
}
