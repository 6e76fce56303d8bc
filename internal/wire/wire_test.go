// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

const served = `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{` +
	`"annotations":{"a":"b","kubectl.kubernetes.io/last-applied-configuration":"{\"x\":1}\n"},"creationTimestamp":"2026-01-01T00:00:00Z",` +
	`"finalizers":["cluster.open-cluster-management.io/manifest-work-cleanup","other/one"],"generation":4,"labels":{"l":"1"},` +
	`"managedFields":[{"manager":"x","fieldsV1":{"f:spec":{}}}],"name":"web","namespace":"c1","resourceVersion":"123","uid":"u-1"},` +
	`"spec":{"workload":{"manifests":[{"kind":"ConfigMap","data":{"k":"}\"{"}}]}},"status":{"conditions":[]},"extra":true}`

const delivered = `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{` +
	`"annotations":{"a":"b"},"creationTimestamp":"2026-01-01T00:00:00Z","finalizers":["other/one"],"generation":4,"labels":{"l":"1"},` +
	`"name":"web","namespace":"c1","uid":"u-1"},` +
	`"spec":{"workload":{"manifests":[{"kind":"ConfigMap","data":{"k":"}\"{"}}]}},"extra":true}`

func TestScanRemovesExactlyTheNoise(t *testing.T) {
	s, err := Scan([]byte(served))
	require.NoError(t, err)
	require.JSONEq(t, delivered, string(s.Delivered()))
	require.Equal(t, Digest(sha256.Sum256([]byte(delivered))), s.Digest)
	require.Equal(t, len(delivered), s.Size())
	require.Equal(t, "c1/web u-1", s.Namespace+"/"+s.Name+" "+s.UID)
	require.EqualValues(t, 123, s.ResourceVersion)
	require.EqualValues(t, 4, s.Generation)
	require.True(t, s.Finalizer)
	require.False(t, s.Deleting)
	require.JSONEq(t, delivered, string(s.Delivered()))
}

func TestScanVariants(t *testing.T) {
	minimal := `{"metadata":{"name":"web","uid":"u"}`
	cases := map[string]struct{ reason, in, want string }{
		"only noise in lists": {
			"empty lists disappear, so that adding our finalizer changes nothing",
			`{"metadata":{"name":"web","uid":"u","finalizers":["cluster.open-cluster-management.io/manifest-work-cleanup"],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x"}},"spec":{}}`,
			minimal + `,"spec":{}}`,
		},
		"spec first":  {"order is kept", `{"spec":{"a":1},"metadata":{"name":"web","uid":"u"}}`, `{"spec":{"a":1},"metadata":{"name":"web","uid":"u"}}`},
		"spec only":   {"status goes", `{"metadata":{"name":"web","uid":"u"},"spec":[],"status":{}}`, minimal + `,"spec":[]}`},
		"no spec":     {"add-ons may have none", minimal + `,"status":{"x":"y"}}`, minimal + `}`},
		"white space": {"what is between members is not content", "{ \"metadata\" : {\"name\":\"web\", \"uid\" :\"u\"}\n}", minimal + `}`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := Scan([]byte(tc.in))
			require.NoError(t, err, tc.reason)
			require.Equal(t, tc.want, string(s.Delivered()), tc.reason)
		})
	}
}

func TestScanErrors(t *testing.T) {
	for name, in := range map[string]string{
		"empty": "", "array": "[]", "cut": served[:len(served)/2], "no uid": `{"metadata":{"name":"a"}}`,
		"bad rv": `{"metadata":{"name":"a","uid":"u","resourceVersion":"x"}}`, "no colon": `{"metadata" {}}`, "trailing comma": `{"metadata":{"name":"a","uid":"u",}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Scan([]byte(in))
			require.Error(t, err)
		})
	}
}

func TestDeletingWorksHaveADigestOfTheirOwn(t *testing.T) {
	in := strings.Replace(served, `"generation":4`, `"deletionTimestamp":"2026-01-01T00:00:00Z","generation":5`, 1)
	s, err := Scan([]byte(in))
	require.NoError(t, err)
	require.True(t, s.Deleting)
	require.Equal(t, DeletingDigest("u-1"), s.Digest)
}

func TestScanListAndEvent(t *testing.T) {
	var items []string
	meta, err := ScanList([]byte(`{"kind":"L","metadata":{"resourceVersion":"7","continue":"abc"},"items":[{"a":[1,2]},{"b":"]"}]}`), func(o []byte) error {
		items = append(items, string(o))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, ListMeta{ResourceVersion: 7, Continue: "abc"}, meta)
	require.Equal(t, []string{`{"a":[1,2]}`, `{"b":"]"}`}, items)
	_, err = ScanList([]byte(`{"metadata":{"resourceVersion":"7"},"items":null}`), func([]byte) error { return nil })
	require.NoError(t, err)

	for _, line := range []string{
		`{"type":"MODIFIED","object":{"x":1}}` + "\n", // as an apiserver writes it
		`{"type":"MODIFIED","object":{"x":1}}`,
		`{ "object" : {"x":1}, "type" :"MODIFIED" }`,
	} {
		kind, object, err := ScanEvent([]byte(line))
		require.NoError(t, err, line)
		require.Equal(t, "MODIFIED", kind, line)
		require.Equal(t, `{"x":1}`, string(object), line)
	}
	for _, line := range []string{`{"type":"MODIFIED"}`, `{"type":"","object":{}}`, `{"type":"MODIFIED","object":{"x":1}`, `{"type":"MODIFIED","object":`, `{"type":"`, ""} {
		kind, object, err := ScanEvent([]byte(line))
		if err == nil {
			_, err = Scan(object)
		}
		require.Error(t, err, "%s: %s %s", line, kind, object)
	}
}

func TestSkipString(t *testing.T) {
	for in, want := range map[string]int{`"" `: 2, `"a" `: 3, `"a\"b" `: 6, `"\\" "`: 4, `"\\\"" `: 6, `"a`: 0, `"a\"`: 0, `"\`: 0, `x`: 0} {
		end, err := skipString([]byte(in), 0)
		require.Equal(t, want, end, in)
		require.Equal(t, want == 0, err != nil, in)
	}
}

func TestStatusDigest(t *testing.T) {
	digest := func(s string) Digest {
		d, err := StatusDigest([]byte(s))
		require.NoError(t, err)
		return d
	}
	require.True(t, digest("").IsZero())
	require.True(t, digest("{}").IsZero())
	require.True(t, digest(`{"conditions":[{"type":"Delivered"}]}`).IsZero(), "the hub's own condition takes no part")
	require.Equal(t, digest(`{"b":1,"a":"<"}`), digest(` { "a" : "<", "b":1 } `), "order and space take no part")
	require.NotEqual(t, digest(`{"a":1}`), digest(`{"a":2}`))
	scanned, undelivered := scannedStatus([]byte(`{"a":1}`))
	require.Equal(t, digest(`{"a":1}`), scanned)
	require.False(t, undelivered)
	scanned, undelivered = scannedStatus([]byte(`{"conditions":[{"type":"Applied"},{"type":"Delivered","status":"False"}]}`))
	require.Equal(t, digest(`{"conditions":[{"type":"Applied"}]}`), scanned)
	require.True(t, undelivered)
	_, err := StatusDigest([]byte(`{"a":1}x`))
	require.ErrorIs(t, err, ErrScan)
	_, err = StatusDigest([]byte(`[]`))
	require.ErrorIs(t, err, ErrScan)
}

func entryGen() *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		var d Digest
		d[0] = rapid.Byte().Draw(t, "digest")
		return Entry{
			Key:      Key{KindWork, rapid.StringMatching(`[a-z]{1,3}`).Draw(t, "name")},
			Revision: Revision{UID: rapid.StringMatching(`[0-9]{1,2}`).Draw(t, "uid"), Generation: rapid.Int64Range(1, 3).Draw(t, "generation"), Digest: d},
		}
	})
}

func TestSummarizeIsAFunctionOfTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfNDistinct(entryGen(), 0, 40, func(e Entry) Key { return e.Key }).Draw(t, "entries")
		shuffled := append([]Entry(nil), entries...)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		require.Equal(t, Summarize(entries).Root(), Summarize(shuffled).Root(), "order takes no part")
		if len(entries) == 0 {
			require.True(t, Summarize(entries).Root().IsZero())
			return
		}
		i := rapid.IntRange(0, len(entries)-1).Draw(t, "changed")
		before := Summarize(entries)
		bucket := entries[i].Key.Bucket()
		entries[i].Generation++
		after := Summarize(entries)
		require.NotEqual(t, before.Root(), after.Root())
		for b := range before {
			if uint8(b) != bucket {
				require.Equal(t, before[b], after[b], "only the bucket of the changed key differs")
			}
		}
	})
}

func TestBatchIDNamesExactlyItsObjects(t *testing.T) {
	a := Entry{Key: Key{KindWork, "a"}, Revision: Revision{UID: "1", Generation: 1}}
	b := Entry{Key: Key{KindWork, "b"}, Revision: Revision{UID: "2"}}
	require.Equal(t, BatchID([]Entry{a, b}), BatchID([]Entry{b, a}))
	require.NotEqual(t, BatchID([]Entry{a, b}), BatchID([]Entry{a}))
	changed := a
	changed.Generation = 9
	require.Equal(t, BatchID([]Entry{a}), BatchID([]Entry{changed}), "the id is of keys and UIDs")
	changed.UID = "9"
	require.NotEqual(t, BatchID([]Entry{a}), BatchID([]Entry{changed}))
}

func TestHighWaterProof(t *testing.T) {
	mark := ProveHighWater([]byte("secret"), "hub", 42)
	require.True(t, Proven([]byte("secret"), "hub", HighWaterOf(mark.Proto())))
	require.False(t, Proven([]byte("other"), "hub", mark))
	require.False(t, Proven([]byte("secret"), "hub2", mark))
	mark.ResourceVersion++
	require.False(t, Proven([]byte("secret"), "hub", mark), "a raised mark is not proven")
	require.False(t, Proven([]byte("secret"), "hub", HighWater{}))
	require.Zero(t, HighWaterOf(&agentv1.HighWater{ResourceVersion: "x"}))
	require.Nil(t, HighWater{}.Proto())
}

func TestTruncate(t *testing.T) {
	require.Equal(t, "short", Truncate("short"))
	cut := Truncate(strings.Repeat("ä", 5000))
	require.LessOrEqual(t, len(cut), MaxErrorMessage)
	require.True(t, utf8.ValidString(cut))
	require.Contains(t, cut, "truncated")
}

func TestPrefix(t *testing.T) {
	require.Equal(t, "aé", Prefix("aé", 3))
	require.Equal(t, "a", Prefix("aé", 2), "not within a character")
	require.Empty(t, Prefix("é", 1))
	require.Empty(t, Prefix("", 0))
}

func parts(content []byte, size int) []Part {
	rev := Revision{UID: "u", Generation: 1, Digest: sha256.Sum256(content), Size: uint64(len(content))}
	pieces := Cut(content, size)
	out := make([]Part, len(pieces))
	for i, piece := range pieces {
		out[i] = Part{Key: Key{KindWork, "w"}, Revision: rev, Size: rev.Size, Index: uint32(i), Last: i == len(pieces)-1, Bytes: piece}
	}
	return out
}

func TestPartsComeTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "content")
		var a Assembler
		for i, p := range parts(content, rapid.IntRange(1, 50).Draw(t, "size")) {
			whole, done, err := a.Add(p)
			require.NoError(t, err)
			require.Equal(t, p.Last, done, "part %d", i)
			if done {
				require.NoError(t, Verify(p.Revision, whole))
				require.Equal(t, string(content), string(whole))
				require.False(t, a.Open())
			}
		}
	})
}

// TestT22_broken_parts_are_never_an_object damages parts in each way that the
// threat list names.
func TestT22_broken_parts_are_never_an_object(t *testing.T) {
	content := []byte(strings.Repeat("abc", 100))
	cases := map[string]struct {
		reason string
		damage func([]Part) []Part
		want   error
	}{
		"flipped byte":   {"the digest tells", func(p []Part) []Part { p[1].Bytes = append([]byte{'x'}, p[1].Bytes[1:]...); return p }, ErrDigest},
		"out of order":   {"index 1 does not follow 1", func(p []Part) []Part { p[0], p[1] = p[1], p[0]; return p }, ErrPartOrder},
		"missing":        {"a gap", func(p []Part) []Part { return append(p[:1:1], p[2:]...) }, ErrPartOrder},
		"cut short":      {"fewer bytes than declared", func(p []Part) []Part { p[1].Last = true; return p[:2] }, ErrDigest},
		"too long":       {"more bytes than taken", func(p []Part) []Part { p[1].Bytes = make([]byte, MaxObject+1); return p }, ErrPartSize},
		"huge claim":     {"refused before any byte is kept", func(p []Part) []Part { p[0].Size = MaxObject + 1; return p }, ErrPartSize},
		"other revision": {"parts of one revision only", func(p []Part) []Part { p[1].Revision.UID = "v"; return p }, ErrPartOrder},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var a Assembler
			var failed error
			for _, p := range tc.damage(parts(content, 100)) {
				whole, done, err := a.Add(p)
				if err == nil && done {
					err = Verify(p.Revision, whole)
				}
				if failed = err; err != nil {
					break
				}
			}
			require.ErrorIs(t, failed, tc.want, tc.reason)
		})
	}
}
