// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// token is where a reader stands: a resume token is this, encoded. It holds no
// right: whoever changes one changes what he himself is told.
type token struct {
	Epoch string `json:"e"` // the hub's, so that a token from before a restore is known
	Watch string `json:"w"` // what is watched: with another selector other objects are new
	Marks marks  `json:"m"`
}

// maxToken bounds what is decoded.
const maxToken = 1 << 10

func (t token) String() string {
	raw, err := json.Marshal(t)
	if err != nil {
		return "" // strings only
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// parseToken reads what String made; ok is false for anything else.
func parseToken(text string) (t token, ok bool) {
	if len(text) > maxToken {
		return token{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, &t) != nil {
		return token{}, false
	}
	return t, t.Epoch != "" && t.Watch != "" && t.Marks[0] != ""
}

// watchOf names what is watched.
func watchOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
