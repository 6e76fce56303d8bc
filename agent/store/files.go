// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"fairlead.dev/fairlead/internal/failpoint"
	"fairlead.dev/fairlead/internal/wire"
)

const (
	recordSuffix = ".record"
	tempSuffix   = ".tmp"
	metaFile     = "meta"
	fileMagic    = "flst1\n"
	headerBytes  = len(fileMagic) + 4
)

// Files is the Backend for agents outside a cluster, and for tests: one file
// per record in one folder, which only this process may use.
type Files struct {
	dir string
	// step is called between the steps of a write; tests end the process there.
	step func(name string)
}

// NewFiles makes the folder, mode 0700, if it is missing.
func NewFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // the operator names it
		return nil, fmt.Errorf("making the store's folder: %w; choose another one with --data-dir", err)
	}
	return &Files{dir: dir, step: func(string) { failpoint.Pass(failpoint.Store) }}, nil
}

// fileHead is the part of a record's file that names its key.
type fileHead struct {
	Kind wire.Kind       `json:"kind"`
	Name string          `json:"name"`
	Head json.RawMessage `json:"head"`
}

// PutRecord implements Backend.
func (f *Files) PutRecord(_ context.Context, record Record) error {
	head, err := json.Marshal(fileHead{Kind: record.Key.Kind, Name: record.Key.Name, Head: record.Head})
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", record.Key, err)
	}
	if err := f.write(recordID(record.Key)+recordSuffix, head, record.Body); err != nil {
		return fmt.Errorf("storing %s: %w", record.Key, err)
	}
	return nil
}

// RemoveRecord implements Backend.
func (f *Files) RemoveRecord(_ context.Context, key wire.Key) error {
	err := os.Remove(filepath.Join(f.dir, recordID(key)+recordSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing the record of %s: %w", key, err)
	}
	return f.syncDir()
}

// PutMeta implements Backend.
func (f *Files) PutMeta(_ context.Context, meta []byte) error {
	if err := f.write(metaFile, meta, nil); err != nil {
		return fmt.Errorf("storing the store's own record: %w", err)
	}
	return nil
}

// write replaces a file as a whole: a new file, its content on disk, the rename
// on disk. After a crash at any point the old or the new content is there.
func (f *Files) write(name string, head, body []byte) error {
	path := filepath.Join(f.dir, name)
	temp := path + tempSuffix
	if err := f.writeSynced(temp, frame(head, body)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	f.step("synced")
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	f.step("renamed")
	return f.syncDir()
}

func (f *Files) writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	half := len(content) / 2
	_, err = file.Write(content[:half])
	f.step("half written")
	if err == nil {
		_, err = file.Write(content[half:])
	}
	f.step("written")
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f *Files) syncDir() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// frame is magic, the head's length, head and body, and the SHA-256 of all that.
func frame(head, body []byte) []byte {
	out := make([]byte, 0, headerBytes+len(head)+len(body)+sha256.Size)
	out = append(out, fileMagic...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(head))) //nolint:gosec // heads are small
	out = append(append(out, head...), body...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

func unframe(raw []byte) (head, body []byte, err error) {
	if len(raw) < headerBytes+sha256.Size || !bytes.HasPrefix(raw, []byte(fileMagic)) {
		return nil, nil, errors.New("it is not a complete file of this store")
	}
	content, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if want := sha256.Sum256(content); !bytes.Equal(want[:], sum) {
		return nil, nil, errors.New("its checksum does not match")
	}
	n := int(binary.BigEndian.Uint32(content[len(fileMagic):]))
	if n > len(content)-headerBytes {
		return nil, nil, errors.New("its head is longer than the file")
	}
	return content[headerBytes : headerBytes+n], content[headerBytes+n:], nil
}

// Load implements Backend.
func (f *Files) Load(ctx context.Context) (Loaded, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return Loaded{}, fmt.Errorf("reading the store's folder: %w", err)
	}
	var loaded Loaded
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return Loaded{}, err
		}
		if err := f.loadFile(entry.Name(), &loaded); err != nil {
			return Loaded{}, err
		}
	}
	return loaded, nil
}

func (f *Files) loadFile(name string, loaded *Loaded) error {
	path := filepath.Join(f.dir, name)
	if strings.HasSuffix(name, tempSuffix) {
		return os.Remove(path) // a write that never finished and was never acknowledged
	}
	if name != metaFile && !strings.HasSuffix(name, recordSuffix) {
		return nil // not ours
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	head, body, err := unframe(raw)
	if err == nil && name == metaFile {
		loaded.Meta = head
		return nil
	}
	var record Record
	if err == nil {
		record, err = recordOf(name, head, body)
	}
	if err != nil {
		loaded.Dropped = append(loaded.Dropped, Dropped{Name: path, Why: err.Error()})
		return os.Remove(path)
	}
	loaded.Records = append(loaded.Records, record)
	return nil
}

func recordOf(name string, raw, body []byte) (Record, error) {
	var head fileHead
	if err := json.Unmarshal(raw, &head); err != nil {
		return Record{}, fmt.Errorf("its head does not parse: %w", err)
	}
	record := Record{Key: wire.Key{Kind: head.Kind, Name: head.Name}, Head: head.Head, Body: body}
	if recordID(record.Key)+recordSuffix != name {
		return Record{}, fmt.Errorf("it says to be %s, which has another file name", record.Key)
	}
	return record, nil
}
