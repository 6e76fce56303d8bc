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

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// manifest is one document of a file, as JSON.
type manifest struct {
	group, kind, namespace, name string
	json                         []byte
}

// readManifests reads files and folders in the order given, a folder's files by
// name. Every error names the file and the document.
func readManifests(paths []string) ([]manifest, error) {
	var out []manifest
	for _, path := range paths {
		files, err := expand(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			found, err := readFile(file)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no manifests in %q", paths)
	}
	return out, nil
}

// expand lists the manifest files of a folder; a file is itself.
func expand(path string) ([]string, error) {
	if path == "-" {
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

func readFile(file string) ([]manifest, error) {
	raw, err := read(file)
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
		if err != nil {
			return nil, fmt.Errorf("%s, document %d: %w", file, number, err)
		}
		found, err := parse(document)
		if err != nil {
			return nil, fmt.Errorf("%s, document %d: %w", file, number, err)
		}
		out = append(out, found...)
	}
}

func read(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}

// parse reads one document: nothing when it is empty, each item of a List.
func parse(document []byte) ([]manifest, error) {
	raw, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	if string(raw) == "null" {
		return nil, nil
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	if !object.IsList() {
		one, err := newManifest(object)
		return []manifest{one}, err
	}
	var out []manifest
	err = object.EachListItem(func(item runtime.Object) error {
		one, err := newManifest(item.(*unstructured.Unstructured))
		out = append(out, one)
		return err
	})
	return out, err
}

func newManifest(object *unstructured.Unstructured) (manifest, error) {
	if object.GetName() == "" {
		return manifest{}, fmt.Errorf("%s without metadata.name", object.GetKind())
	}
	raw, err := object.MarshalJSON()
	if err != nil {
		return manifest{}, err
	}
	kind := object.GroupVersionKind()
	return manifest{group: kind.Group, kind: kind.Kind, namespace: object.GetNamespace(), name: object.GetName(), json: bytes.TrimSpace(raw)}, nil
}
