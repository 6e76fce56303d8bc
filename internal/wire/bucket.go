// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"slices"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// Buckets is the number of groups that keys fall into for comparison.
const Buckets = 256

// Entry is one key with what is held of it, as compared between hub and agent.
type Entry struct {
	Key Key
	Revision
}

// BucketDigests are the digests of all buckets; an empty bucket has the zero
// digest.
type BucketDigests [Buckets]Digest

// Bucket is the group of a key: FNV-1a & 255 over kind and name.
func (k Key) Bucket() uint8 {
	h := fnv.New32a()
	_, _ = h.Write([]byte{byte(k.Kind)})
	_, _ = h.Write([]byte(k.Name))
	return uint8(h.Sum32()) //nolint:gosec // the low byte is wanted
}

// DeletingDigest stands for the content of an object whose deletion has been
// asked for: an agent that durably knows of the delete is in sync.
func DeletingDigest(uid string) Digest {
	return sha256.Sum256([]byte("fairlead-deleting\n" + uid))
}

// Summarize computes the digest of every bucket: SHA-256 over its entries,
// sorted by key, of (key, uid, generation, digest). The order of entries does
// not matter; entries is sorted in place.
func Summarize(entries []Entry) *BucketDigests {
	type placed struct {
		bucket uint8
		index  int
	}
	slices.SortFunc(entries, compareEntries)
	order := make([]placed, len(entries))
	for i := range entries {
		order[i] = placed{entries[i].Key.Bucket(), i}
	}
	slices.SortStableFunc(order, func(a, b placed) int { return cmp.Compare(a.bucket, b.bucket) })
	out := &BucketDigests{}
	var buf []byte
	for start := 0; start < len(order); {
		end := start
		buf = buf[:0]
		for ; end < len(order) && order[end].bucket == order[start].bucket; end++ {
			buf = appendEntry(buf, &entries[order[end].index])
		}
		out[order[start].bucket] = sha256.Sum256(buf)
		start = end
	}
	return out
}

// Root folds all buckets into one digest; no entries at all give the zero
// digest.
func (b *BucketDigests) Root() Digest {
	if *b == (BucketDigests{}) {
		return Digest{}
	}
	h := sha256.New()
	for i := range b {
		h.Write(b[i][:])
	}
	return Digest(h.Sum(nil))
}

func compareEntries(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Name, b.Key.Name))
}

// appendEntry encodes an entry so that no two entries give the same bytes:
// strings carry their length.
func appendEntry(buf []byte, e *Entry) []byte {
	buf = append(buf, byte(e.Key.Kind))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(e.Key.Name))) //nolint:gosec // names are short
	buf = append(buf, e.Key.Name...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(e.UID))) //nolint:gosec // UIDs are short
	buf = append(buf, e.UID...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.Generation)) //nolint:gosec // the same 64 bits
	return append(buf, e.Digest[:]...)
}

// EntryProto is an entry on the wire.
func EntryProto(e Entry) *agentv1.InventoryEntry {
	return &agentv1.InventoryEntry{Key: e.Key.Proto(), Revision: e.Proto()}
}

// EntryOf reads an entry from the wire; ok is false when it has no name or no
// digest.
func EntryOf(e *agentv1.InventoryEntry) (Entry, bool) {
	rev, ok := RevisionOf(e.GetRevision())
	key := KeyOf(e.GetKey())
	return Entry{Key: key, Revision: rev}, ok && key.Name != "" && key.Kind != 0
}

// BatchID is the id of a group of deletes: SHA-256, in 24 hex characters, over
// its sorted (key, uid) list, so that it names exactly these objects.
func BatchID(entries []Entry) string {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, compareEntries)
	var buf []byte
	for i := range sorted {
		e := Entry{Key: sorted[i].Key, Revision: Revision{UID: sorted[i].UID}}
		buf = appendEntry(buf, &e)
	}
	sum := sha256.Sum256(buf)
	const hexDigits = "0123456789abcdef"
	out := make([]byte, 0, 24)
	for _, b := range sum[:12] {
		out = append(out, hexDigits[b>>4], hexDigits[b&15])
	}
	return string(out)
}
