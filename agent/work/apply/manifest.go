// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Manifest is an object as it is to be, ready to be compared and applied.
type Manifest struct {
	// Object has what is to be applied: no status, and of the metadata only what a manifest may decide.
	Object *unstructured.Unstructured
	// dropLabels and dropAnnotations are the keys that the manifest, by a trailing "-", wants to be gone.
	dropLabels, dropAnnotations []string
}

// Decode reads the JSON of one manifest. The error says what is wrong with it in words for its author.
func Decode(raw []byte) (Manifest, error) {
	if len(raw) == 0 {
		return Manifest{}, errors.New("the manifest is empty")
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(raw); err != nil {
		return Manifest{}, fmt.Errorf("the manifest does not decode: %w", err)
	}
	if obj.GetAPIVersion() == "" {
		return Manifest{Object: obj}, errors.New("the manifest has no apiVersion")
	}
	if obj.GetName() == "" {
		return Manifest{Object: obj}, errors.New("the manifest has no metadata.name")
	}
	m := Manifest{Object: obj}
	m.tidy()
	return m, nil
}

// kept are the parts of the metadata that a manifest decides; uid, resourceVersion and the like are the spoke's.
var kept = [...]string{"name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"}

func (m *Manifest) tidy() {
	delete(m.Object.Object, "status")
	if metadata, ok := m.Object.Object["metadata"].(map[string]any); ok {
		tidied := map[string]any{}
		for _, name := range kept {
			if value, ok := metadata[name]; ok && value != nil {
				tidied[name] = value
			}
		}
		m.dropLabels = takeRemovals(tidied, "labels")
		m.dropAnnotations = takeRemovals(tidied, "annotations")
		m.Object.Object["metadata"] = tidied
	}
	if m.Object.GetKind() == "Secret" && m.Object.GetAPIVersion() == "v1" {
		encodeStringData(m.Object.Object)
	}
}

// takeRemovals takes the keys with a trailing "-" out of the map called name and returns them without it.
func takeRemovals(metadata map[string]any, name string) []string {
	values, _ := metadata[name].(map[string]any)
	var removals []string
	for key := range values {
		if bare, found := strings.CutSuffix(key, "-"); found {
			removals = append(removals, bare)
			delete(values, key)
		}
	}
	return removals
}

// encodeStringData moves a Secret's stringData to data, as the apiserver does: what is written only can neither be compared nor
// owned.
func encodeStringData(secret map[string]any) {
	plain, ok := secret["stringData"].(map[string]any)
	if !ok {
		return
	}
	data, ok := secret["data"].(map[string]any)
	if !ok {
		data = map[string]any{}
	}
	for key, value := range plain {
		text, ok := value.(string)
		if !ok {
			return
		}
		data[key] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	secret["data"] = data
	delete(secret, "stringData")
}
