// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"fairlead.dev/fairlead/internal/wire"
)

// Backend keeps records. When a Put or Remove returns nil, a Load after SIGKILL
// sees it; when it returns an error, Load sees the old state or the new one,
// never a mixture. Calls for different keys may be concurrent, calls for one key
// are not.
type Backend interface {
	// Load reads everything. What is damaged is dropped, removed and reported.
	Load(ctx context.Context) (Loaded, error)
	// PutRecord writes head and body of one object as a pair.
	PutRecord(ctx context.Context, record Record) error
	// RemoveRecord removes it; it is no error if there is none.
	RemoveRecord(ctx context.Context, key wire.Key) error
	// PutMeta replaces what is kept about the store as a whole.
	PutMeta(ctx context.Context, meta []byte) error
}

// Record is one object as a backend sees it: bytes.
type Record struct {
	Key  wire.Key
	Head []byte // small
	Body []byte // compressed content, up to 1 MiB; may be empty
}

// Loaded is what a backend found.
type Loaded struct {
	Meta    []byte // nil when there is none, or when it is damaged
	Records []Record
	Dropped []Dropped
}

// Dropped names something that could not be read back, and why. The hub sends
// it again.
type Dropped struct {
	Name string // a file or Secret
	Why  string
}

// recordID names a record's file or Secret: work names may be longer than file
// names and Secret names can be.
func recordID(key wire.Key) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(int(key.Kind)) + "/" + key.Name))
	return hex.EncodeToString(sum[:16])
}
