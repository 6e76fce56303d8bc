// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// ConditionDelivered is the hub's own condition on a ManifestWork; it is there
// only while the hub cannot deliver the work, and takes no part in digests.
const ConditionDelivered = "Delivered"

// StatusDigest is SHA-256 over the compact, sorted-key form of a status without
// the hub's own condition, so that what an agent sent and what the apiserver
// stored compare equal. An absent or empty status has the zero digest.
func StatusDigest(status []byte) (Digest, error) {
	canonical, err := CanonicalStatus(status)
	if err != nil {
		return Digest{}, err
	}
	return sumStatus(canonical), nil
}

// CanonicalStatus is the compact, sorted-key form of a status as the apiserver
// writes it, without the hub's own condition. One that is in that form is
// returned itself.
func CanonicalStatus(status []byte) ([]byte, error) {
	if isCanonical(status) {
		return status, nil
	}
	return canonicalized(status)
}

func canonicalized(status []byte) ([]byte, error) {
	if len(bytes.TrimSpace(status)) == 0 {
		return []byte("{}"), nil
	}
	decoder := json.NewDecoder(bytes.NewReader(status))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("%w: status: %w", ErrScan, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: status: something follows the object", ErrScan)
	}
	if conditions, ok := fields["conditions"].([]any); ok {
		conditions = slices.DeleteFunc(conditions, isDelivered)
		fields["conditions"] = conditions
		if len(conditions) == 0 {
			delete(fields, "conditions")
		}
	}
	if fields == nil {
		fields = map[string]any{}
	}
	return json.Marshal(fields)
}

func isDelivered(condition any) bool {
	fields, ok := condition.(map[string]any)
	return ok && fields["type"] == ConditionDelivered
}

// scannedStatus is StatusDigest for bytes that an apiserver served, which are
// canonical already unless the hub's own condition is among them. undelivered
// tells whether that condition seems to be there.
func scannedStatus(raw []byte) (digest Digest, undelivered bool) {
	if bytes.Contains(raw, []byte(`"`+ConditionDelivered+`"`)) {
		if digest, err := StatusDigest(raw); err == nil {
			return digest, true
		}
		undelivered = true
	}
	return sumStatus(raw), undelivered
}

func sumStatus(canonical []byte) Digest {
	if string(canonical) == "{}" || string(canonical) == "null" {
		return Digest{}
	}
	return sha256.Sum256(canonical)
}
