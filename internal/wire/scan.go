// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"

	"fairlead.dev/fairlead/internal/identity"
)

// ErrScan is wrapped by every error of the scanner: the bytes are not the JSON
// of a Kubernetes object.
var ErrScan = errors.New("not an object's JSON")

// lastApplied is the one annotation on the noise list: kubectl's copy of the
// whole object, which no agent reads.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// headRoom is what all before the spec mostly takes.
const headRoom = 640

// Scanned is one object as the apiserver served it, read without decoding it.
// What is delivered to an agent is Head + Spec + Tail; Spec is apart so that
// equal specs of many clusters can be kept once.
type Scanned struct {
	Namespace, Name, UID string
	ResourceVersion      uint64
	Generation           int64
	Deleting             bool // has a deletionTimestamp
	Finalizer            bool // carries our finalizer
	Head, Spec, Tail     []byte
	// Digest is that of the delivered bytes, or DeletingDigest.
	Digest Digest
	// Status is StatusDigest of the object's status.
	Status Digest
	// Expires: the spec seems to say after what time a completed work is deleted,
	// and the status to say whether it is complete. They were only searched for.
	Expires bool
	// Undelivered: the status seems to have the hub's own condition. It was only
	// searched for, so it has to be looked up to be sure.
	Undelivered bool
	// Generated is set for works of replica sets.
	Generated *Generated

	parts generatedParts
}

// Size is the number of bytes delivered.
func (s *Scanned) Size() int { return len(s.Head) + len(s.Spec) + len(s.Tail) }

// Delivered is the object as delivered: what the apiserver served minus the
// noise list (PROTOCOL decision 2).
func (s *Scanned) Delivered() []byte {
	out := make([]byte, 0, s.Size())
	return append(append(append(out, s.Head...), s.Spec...), s.Tail...)
}

// Scan reads one object's JSON. raw is not changed, and Spec is a part of it: who
// uses raw for something else has to be done with Spec.
func Scan(raw []byte) (*Scanned, error) {
	s := &Scanned{}
	var tail []byte
	head := append(make([]byte, 0, headRoom), '{')
	seenSpec, complete := false, false
	err := eachMember(raw, func(key, value []byte) error {
		switch string(key) {
		case "status":
			s.Status, s.Undelivered = scannedStatus(value)
			s.parts.status = value
			complete = bytes.Contains(value, []byte(`"Complete"`))
			return nil
		case "spec":
			s.Spec, seenSpec = value, true
			head = appendMember(head, key, nil)
			return nil
		case "metadata":
			kept, err := s.scanMetadata(value)
			if err != nil {
				return err
			}
			value = kept
		}
		if seenSpec {
			tail = appendMember(tail, key, value)
		} else {
			head = appendMember(head, key, value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.Name == "" || s.UID == "" {
		return nil, fmt.Errorf("%w: metadata.name or metadata.uid is missing", ErrScan)
	}
	if len(tail) > 0 {
		tail = append([]byte{','}, tail...)
	}
	s.Expires = complete && bytes.Contains(s.Spec, []byte(`"ttlSecondsAfterFinished"`))
	s.Head, s.Tail = head, append(tail, '}') //nolint:gocritic // tail is ours and not used again
	s.Digest = s.digest()
	if s.Generated, err = generated(s.parts); err != nil {
		return nil, fmt.Errorf("labels or status of %s/%s: %w", s.Namespace, s.Name, err)
	}
	s.parts = generatedParts{} // raw need not be kept for them
	return s, nil
}

func (s *Scanned) digest() Digest {
	if s.Deleting {
		return DeletingDigest(s.UID)
	}
	h := sha256.New()
	h.Write(s.Head)
	h.Write(s.Spec)
	h.Write(s.Tail)
	return Digest(h.Sum(nil))
}

// scanMetadata notes what the hub needs and returns metadata without noise.
func (s *Scanned) scanMetadata(raw []byte) ([]byte, error) {
	kept := append(make([]byte, 0, min(len(raw), headRoom)), '{')
	err := eachMember(raw, func(key, value []byte) error {
		var err error
		switch string(key) {
		case "managedFields":
			s.parts.managed = value
			return nil
		case "labels":
			s.parts.labels = value
		case "creationTimestamp":
			s.parts.created = value
		case "resourceVersion":
			s.ResourceVersion, err = strconv.ParseUint(unquoted(value), 10, 64)
			return err
		case "name":
			s.Name = unquoted(value)
		case "namespace":
			s.Namespace = unquoted(value)
		case "uid":
			s.UID = unquoted(value)
		case "generation":
			s.Generation, err = strconv.ParseInt(string(value), 10, 64)
		case "deletionTimestamp":
			s.Deleting = !bytes.Equal(value, []byte("null"))
		case "finalizers":
			value, err = s.withoutOurFinalizer(value)
		case "annotations":
			value, err = withoutNoise(value)
		}
		if err != nil || value == nil {
			return err
		}
		kept = appendMember(kept, key, value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("metadata of %s/%s: %w", s.Namespace, s.Name, err)
	}
	return append(kept, '}'), nil
}

// withoutOurFinalizer drops our finalizer; nil when none is left.
func (s *Scanned) withoutOurFinalizer(raw []byte) ([]byte, error) {
	kept := []byte{'['}
	err := EachElement(raw, func(value []byte) error {
		if unquoted(value) == identity.ManifestWorkFinalizer {
			s.Finalizer = true
			return nil
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, value...)
		return nil
	})
	if err != nil || len(kept) == 1 {
		return nil, err
	}
	return append(kept, ']'), nil
}

// withoutNoise drops the annotations on the noise list; nil when none is left.
func withoutNoise(raw []byte) ([]byte, error) {
	kept := []byte{'{'}
	err := eachMember(raw, func(key, value []byte) error {
		if string(key) != lastApplied {
			kept = appendMember(kept, key, value)
		}
		return nil
	})
	if err != nil || len(kept) == 1 {
		return nil, err
	}
	return append(kept, '}'), nil
}

// appendMember adds a key and its value to an object's bytes, with a comma
// unless it is the first.
func appendMember(dst, key, value []byte) []byte {
	if n := len(dst); n > 0 && dst[n-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	return append(dst, value...)
}

// unquoted is a JSON string's content when it has no escapes, which names, UIDs
// and versions never have; else the raw bytes, which then match nothing.
func unquoted(value []byte) string {
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return string(value)
	}
	return string(value[1 : len(value)-1])
}

// ScanEvent splits one line of a JSON watch into its type and its object. What
// an apiserver writes is not looked through for it; whether the object is one is
// for its own scan to tell.
func ScanEvent(line []byte) (kind string, object []byte, err error) {
	if after, ok := bytes.CutPrefix(line, []byte(`{"type":"`)); ok {
		name, after, _ := bytes.Cut(after, []byte(`"`))
		after, ok = bytes.CutPrefix(after, []byte(`,"object":`))
		object, whole := bytes.CutSuffix(bytes.TrimRight(after, "\r\n"), []byte(`}`))
		if ok && whole && len(name) > 0 && len(object) > 0 && object[0] == '{' {
			return string(name), object, nil
		}
	}
	err = eachMember(line, func(key, value []byte) error {
		switch string(key) {
		case "type":
			kind = unquoted(value)
		case "object":
			object = value
		}
		return nil
	})
	if err == nil && (kind == "" || object == nil) {
		err = fmt.Errorf("%w: a watch event without type or object", ErrScan)
	}
	return kind, object, err
}

// ListMeta is what a paged LIST says about itself.
type ListMeta struct {
	ResourceVersion uint64
	Continue        string
}

// ScanList calls item for each object of a list's JSON, in order.
func ScanList(raw []byte, item func(object []byte) error) (ListMeta, error) {
	var meta ListMeta
	err := eachMember(raw, func(key, value []byte) error {
		switch string(key) {
		case "metadata":
			m, err := ScanListMeta(value)
			meta = m
			return err
		case "items":
			return EachElement(value, item)
		}
		return nil
	})
	return meta, err
}

// ScanListMeta reads resourceVersion and continue out of a metadata object; a
// bookmark's object has the same shape.
func ScanListMeta(raw []byte) (meta ListMeta, err error) {
	err = eachMember(raw, func(key, value []byte) (err error) {
		switch string(key) {
		case "resourceVersion":
			meta.ResourceVersion, err = strconv.ParseUint(unquoted(value), 10, 64)
		case "continue":
			meta.Continue = unquoted(value)
		}
		return err
	})
	return meta, err
}
