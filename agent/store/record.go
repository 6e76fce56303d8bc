// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"fairlead.dev/fairlead/agent/store/hold"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// head is what a record says beside its content.
type head struct {
	Revision *revision      `json:"revision,omitempty"` // none: only a delete is known
	Deletion *hold.Deletion `json:"deletion,omitempty"`
	Prune    *hold.Prune    `json:"prune,omitempty"`
	// Hub is the newest mark when this was written: so the largest mark is
	// durable without a write of its own.
	Hub mark `json:"hub"`
}

type revision struct {
	UID             string `json:"uid"`
	Generation      int64  `json:"generation"`
	Digest          string `json:"digest"`
	Size            uint64 `json:"size"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

type mark struct {
	Epoch string `json:"epoch"`
	RV    uint64 `json:"rv,omitempty"`
	Proof []byte `json:"proof,omitempty"`
}

func encodeHead(item hold.Item, hub mark) ([]byte, error) {
	h := head{Deletion: item.Deletion, Prune: item.Prune, Hub: hub}
	if item.HasContent() {
		r := item.Revision
		h.Revision = &revision{
			UID: r.UID, Generation: r.Generation, Digest: hex.EncodeToString(r.Digest[:]),
			Size: r.Size, ResourceVersion: r.ResourceVersion,
		}
	}
	return json.Marshal(h)
}

func decodeHead(raw []byte) (hold.Item, mark, error) {
	var h head
	if err := json.Unmarshal(raw, &h); err != nil {
		return hold.Item{}, mark{}, fmt.Errorf("its record does not parse: %w", err)
	}
	item := hold.Item{Deletion: h.Deletion, Prune: h.Prune}
	if r := h.Revision; r != nil {
		digest, err := hex.DecodeString(r.Digest)
		if err != nil || len(digest) != len(wire.Digest{}) {
			return hold.Item{}, mark{}, fmt.Errorf("its digest %q is not one", r.Digest)
		}
		item.Revision = wire.Revision{
			UID: r.UID, Generation: r.Generation, Digest: wire.Digest(digest),
			Size: r.Size, ResourceVersion: r.ResourceVersion,
		}
	}
	if item.UID() == "" {
		return hold.Item{}, mark{}, errors.New("it names no UID")
	}
	return item, h.Hub, nil
}

// meta is the record of the store as a whole.
type meta struct {
	StoreEpoch string `json:"storeEpoch"`
	HubID      string `json:"hubId,omitempty"`
	Hub        mark   `json:"hub"`
	// Older has, by epoch, the keys to which the hub's epoch does not apply.
	Older map[string][]metaKey `json:"older,omitempty"`
	Done  []time.Time          `json:"done,omitempty"`
}

type metaKey struct {
	Kind wire.Kind `json:"k"`
	Name string    `json:"n"`
}

// encodeMeta compresses: after a restore of the hub, Older names every object.
func encodeMeta(m meta, c *codec.Codec) ([]byte, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.AppendUint32(nil, uint32(len(raw))) //nolint:gosec // at most 1 MiB, else it could not be read back
	return append(size, c.Compress(raw)...), nil
}

func decodeMeta(packed []byte, c *codec.Codec) (meta, error) {
	var m meta
	if len(packed) < 4 {
		return m, errors.New("it is too short")
	}
	raw, err := c.Decompress(packed[4:], uint64(binary.BigEndian.Uint32(packed)))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, err
	}
	if m.StoreEpoch == "" {
		return m, errors.New("it names no store epoch")
	}
	return m, nil
}

func olderByEpoch(older map[wire.Key]string) map[string][]metaKey {
	out := map[string][]metaKey{}
	for _, key := range slices.SortedFunc(maps.Keys(older), wireKeyOrder) {
		out[older[key]] = append(out[older[key]], metaKey{Kind: key.Kind, Name: key.Name})
	}
	return out
}
