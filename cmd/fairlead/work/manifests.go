// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// stdin is the file name that means standard input.
const stdin = "-"

// manifest is one object of a file, as JSON.
type manifest struct {
	group, kind, namespace, name string
	json                         []byte
	from                         string // where it was read, for errors
}

func (m manifest) String() string {
	if m.namespace == "" {
		return m.kind + " " + m.name
	}
	return m.kind + " " + m.namespace + "/" + m.name
}

// source reads manifests.
type source struct{ stdin io.Reader }

// read reads files and folders in the order given, a folder's files by name.
// Every error names the file and the document.
func (s source) read(paths []string) ([]manifest, error) {
	var out []manifest
	for _, path := range paths {
		files, err := expand(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			found, err := s.file(file)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no manifests in %s: files end in .yaml, .yml or .json, and have objects with apiVersion, kind and metadata.name", strings.Join(paths, ", "))
	}
	return out, twice(out)
}

// twice refuses an object that is there two times, which is a slip: the second
// would undo the first.
func twice(manifests []manifest) error {
	seen := map[string]string{}
	for _, m := range manifests {
		id := m.group + " " + m.String()
		if other, ok := seen[id]; ok {
			return fmt.Errorf("%s is in %s and in %s: keep one", m, other, m.from)
		}
		seen[id] = m.from
	}
	return nil
}

// expand lists the manifest files of a folder; a file is itself.
func expand(path string) ([]string, error) {
	if path == stdin {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			files = append(files, file)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	return files, nil
}

func (s source) file(file string) ([]manifest, error) {
	name, raw, err := s.open(file)
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	var out []manifest
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		where := fmt.Sprintf("%s, document %d", name, number)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		found, err := parse(document, where)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
}

func (s source) open(file string) (name string, raw []byte, err error) {
	if file == stdin {
		raw, err = io.ReadAll(s.stdin)
		return "standard input", raw, err
	}
	raw, err = os.ReadFile(file)
	return file, raw, err
}

// parse reads one document: nothing when it is empty, each item of a List.
func parse(document []byte, where string) ([]manifest, error) {
	raw, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if string(raw) == "null" {
		return nil, nil
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("%s is no Kubernetes object: %w", where, err)
	}
	if !object.IsList() {
		one, err := newManifest(object, where)
		return []manifest{one}, err
	}
	list, err := object.ToList()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	var out []manifest
	for i := range list.Items {
		one, err := newManifest(&list.Items[i], fmt.Sprintf("%s, item %d of the list", where, i+1))
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func newManifest(object *unstructured.Unstructured, where string) (manifest, error) {
	kind := object.GroupVersionKind()
	switch {
	case kind.Kind == "" || kind.Version == "":
		return manifest{}, fmt.Errorf("%s: apiVersion and kind are needed", where)
	case object.GetGenerateName() != "" && object.GetName() == "":
		return manifest{}, fmt.Errorf("%s: %s with generateName: give it metadata.name, or each apply would make another object", where, kind.Kind)
	case object.GetName() == "":
		return manifest{}, fmt.Errorf("%s: %s without metadata.name", where, kind.Kind)
	case kind.Kind == "ManifestWork":
		return manifest{}, fmt.Errorf("%s: a ManifestWork already: «kubectl apply» it in the cluster's namespace on the hub, or give the manifests alone", where)
	}
	raw, err := object.MarshalJSON()
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w", where, err)
	}
	return manifest{group: kind.Group, kind: kind.Kind, namespace: object.GetNamespace(), name: object.GetName(), json: bytes.TrimSpace(raw), from: where}, nil
}
