// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package workrules says which ManifestWorks are taken (WH-14 to WH-16). The
// admission webhook and ApplyWork hold works against the very same rules, and
// what both let through is what the works index is ready to deliver. The JSON of
// a work comes in, and a size or an error for its author goes out; manifests are
// never decoded further than their names, so that no input costs more than a few
// times its length (T74).
package workrules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	kubejson "k8s.io/apimachinery/pkg/util/json"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Error is a rule that a work breaks. Its message says where, which value, and
// what to do.
type Error struct {
	// Reason is one of internal/wire/reason.
	Reason string
	// Field is where: a path in the object.
	Field   string
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

func broken(why, field, format string, args ...any) *Error {
	return &Error{Reason: why, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Work is the part of a ManifestWork that rules are about.
type Work struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata is that part of a work's metadata.
type Metadata struct {
	Name string
	// Size is the length of all metadata, labels and annotations included, in
	// bytes of JSON.
	Size int
}

// UnmarshalJSON implements json.Unmarshaler. It keeps nothing but the name.
func (m *Metadata) UnmarshalJSON(raw []byte) error {
	var named struct {
		Name string `json:"name"`
	}
	err := kubejson.Unmarshal(raw, &named)
	m.Name, m.Size = named.Name, len(raw)
	return err
}

// Spec is that part of a ManifestWorkSpec.
type Spec struct {
	Workload struct {
		Manifests Manifests `json:"manifests"`
	} `json:"workload"`
	Executor *workv1.ManifestWorkExecutor `json:"executor"`
}

// Manifests is a list of raw JSON values, kept as the text that it came as: a
// slice of them would cost many times the length of a list of very many.
type Manifests struct{ list []byte }

// UnmarshalJSON implements json.Unmarshaler.
func (m *Manifests) UnmarshalJSON(raw []byte) error {
	if err := wire.EachElement(raw, func([]byte) error { return nil }); err != nil {
		return broken(reason.Undecodable, "spec.workload.manifests", "is no list of manifests")
	}
	m.list = bytes.Clone(raw)
	return nil
}

// each calls f with the manifests, from the first one on, until f returns an error.
func (m *Manifests) each(f func(i int, manifest []byte) error) error {
	if len(m.list) == 0 {
		return nil
	}
	i := -1
	return wire.EachElement(m.list, func(manifest []byte) error {
		i++
		return f(i, manifest)
	})
}

// ReplicaSet is that part of a ManifestWorkReplicaSet.
type ReplicaSet struct {
	Spec struct {
		Template Spec `json:"manifestWorkTemplate"`
	} `json:"spec"`
}

// Decode reads the JSON of a Work or a ReplicaSet.
func Decode(raw []byte, into any) error {
	err := kubejson.Unmarshal(raw, into)
	if rule, ok := errors.AsType[*Error](err); ok {
		return rule
	}
	if err != nil {
		return broken(reason.Undecodable, "", "%s", inWords(err))
	}
	return nil
}

// Size is the sum of the manifests in bytes, as an apiserver keeps them: without
// white space.
func (s *Spec) Size() int {
	size, _ := s.measure()
	return size
}

// measure is the Size, and how many manifests there are.
func (s *Spec) measure() (size, count int) {
	_ = s.Workload.Manifests.each(func(_ int, manifest []byte) error { // it is a list, as was seen when it was read
		size, count = size+compactLen(manifest), count+1
		return nil
	})
	return size, count
}

// Check holds the manifests against the rules and returns their Size. limit is
// what they may have in all; path is where in the object the spec is. An error is
// an *Error.
func (s *Spec) Check(path string, limit int) (size int, err error) {
	path += ".workload.manifests"
	size, count := s.measure()
	if count == 0 {
		return 0, broken(reason.InvalidArgument, path, "Workload manifests should not be empty: give the objects that are to be applied")
	}
	if size > limit {
		return 0, broken(reason.ObjectTooLarge, path, "the manifests are %d bytes in all, the limit is %d: split them into several works", size, limit)
	}
	seen := make(map[id]int)
	err = s.Workload.Manifests.each(func(i int, raw []byte) error {
		at := fmt.Sprintf("%s[%d]", path, i)
		manifest, problem := identify(raw, at)
		if problem != nil {
			return problem
		}
		if other, ok := seen[manifest]; ok {
			return broken(reason.InvalidArgument, at, "is %s, and so is manifests[%d]: keep one", manifest, other)
		}
		seen[manifest] = i
		return nil
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

// id is what no two manifests of a work may share.
type id struct{ apiVersion, kind, namespace, name string }

// String is the object in the words of kubectl.
func (i id) String() string {
	if i.namespace == "" {
		return fmt.Sprintf("%s %s %q", i.apiVersion, i.kind, i.name)
	}
	return fmt.Sprintf("%s %s %q in namespace %q", i.apiVersion, i.kind, i.name, i.namespace)
}

// identify checks that raw is a Kubernetes object that can be applied.
func identify(raw []byte, at string) (id, *Error) {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return id{}, broken(reason.Undecodable, at, "is not a JSON object but begins with %q: a manifest is a whole Kubernetes object", start(trimmed))
	}
	var object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name         string `json:"name"`
			Namespace    string `json:"namespace"`
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if err := kubejson.Unmarshal(raw, &object); err != nil {
		return id{}, broken(reason.Undecodable, at, "%s", inWords(err))
	}
	switch meta := object.Metadata; {
	case object.APIVersion == "":
		return id{}, broken(reason.Undecodable, at, "apiVersion is missing: say which API the object is of, as in v1 or apps/v1")
	case object.Kind == "":
		return id{}, broken(reason.Undecodable, at, "kind is missing: say what the object is, as in ConfigMap")
	case meta.GenerateName != "":
		return id{}, broken(reason.Undecodable, at, "metadata.generateName is %q: give a fixed metadata.name instead, or each apply would make another object", meta.GenerateName)
	case meta.Name == "":
		return id{}, broken(reason.Undecodable, at, "metadata.name is missing: give the %s a name", object.Kind)
	default:
		return id{object.APIVersion, object.Kind, meta.Namespace, meta.Name}, nil
	}
}

// start is enough of a value to recognise it.
func start(raw []byte) string { return string(raw[:min(len(raw), 20)]) }

// inWords says what is wrong with JSON without naming Go types.
func inWords(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return fmt.Sprintf("is a JSON %s and should be an object", wrong.Value)
		}
		return fmt.Sprintf("%s is a JSON %s, which it cannot be", wrong.Field, wrong.Value)
	}
	return fmt.Sprintf("is not JSON: %v", err)
}

// compactLen is the length of a JSON value without white space between its parts.
func compactLen(raw []byte) int {
	size, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i, size = i+1, size+1 // and what is escaped
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		size++
	}
	return size
}
