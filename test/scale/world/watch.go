// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"fairlead.dev/fairlead/test/scale/stat"
)

// Watch sees works as anybody does who watches the apiserver: the measure of
// when a change was there to be seen, and of what was written.
type Watch struct {
	// Events counts writes of works.
	Events stat.Tally

	mu     sync.Mutex
	marker string
	marked map[string]bool
	found  stat.Tally
	record bool
	seen   []Seen

	cancel  context.CancelFunc
	version string // of the newest event; of the reader
	reader  sync.WaitGroup
	err     error
}

// Seen is a change of a work, and when it was seen.
type Seen struct {
	Cluster, Name, ResourceVersion string
	Label                          string // what Touch wrote
	At                             time.Time
}

// Watch begins to watch, from now on.
func (w *World) Watch(ctx context.Context) (*Watch, error) {
	list, err := w.get(ctx, worksPath+"/manifestworks?limit=1")
	if err != nil {
		return nil, err
	}
	var meta struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(list, &meta); err != nil { //nolint:musttag // field names are matched without case
		return nil, err
	}
	watch := &Watch{version: meta.Metadata.ResourceVersion}
	ctx, watch.cancel = context.WithCancel(ctx)
	body, err := w.open(ctx, watch.version)
	if err != nil {
		watch.cancel()
		return nil, err
	}
	watch.reader.Go(func() { watch.err = w.follow(ctx, watch, body) })
	return watch, nil
}

func (w *World) open(ctx context.Context, version string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.config.Host+worksPath+"/manifestworks?watch=1&resourceVersion="+version, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := w.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("watching works: %s", response.Status), response.Body.Close())
	}
	return response.Body, nil
}

// follow reads until ctx ends. The apiserver ends a watch whose reader is slow,
// which happens where all share two CPUs; it goes on where it was.
func (w *World) follow(ctx context.Context, watch *Watch, body io.ReadCloser) error {
	for {
		err := errors.Join(watch.read(body), body.Close())
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if err != nil {
			w.log.Warn("the watch of works begins anew", "error", err)
		}
		if body, err = w.open(ctx, watch.version); err != nil {
			return err
		}
	}
}

// Stop ends it, and says if it ended before.
func (w *Watch) Stop() error {
	w.cancel()
	w.reader.Wait()
	return w.err
}

func (w *Watch) read(body io.Reader) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.take(line, time.Now()); err != nil {
			return err
		}
	}
}

func (w *Watch) take(line []byte, now time.Time) error {
	var event struct {
		Type   string
		Object struct {
			Metadata struct {
				Name, Namespace, ResourceVersion string
				Labels                           map[string]string
			}
		}
	}
	if err := json.Unmarshal(line, &event); err != nil { //nolint:musttag // field names are matched without case
		return fmt.Errorf("an event of the watch of works: %w", err)
	}
	meta := event.Object.Metadata
	if event.Type == "ERROR" || meta.ResourceVersion == "" {
		return fmt.Errorf("the watch of works says: %s", line)
	}
	w.version = meta.ResourceVersion
	w.mu.Lock()
	if w.record {
		w.seen = append(w.seen, Seen{Cluster: meta.Namespace, Name: meta.Name, ResourceVersion: meta.ResourceVersion, Label: meta.Labels["touched"], At: now})
	}
	key := meta.Namespace + "/" + meta.Name
	fresh := w.marker != "" && !w.marked[key] && bytes.Contains(line, []byte(w.marker))
	if fresh {
		w.marked[key] = true
	}
	w.mu.Unlock()
	if fresh {
		w.found.Add(1)
	}
	w.Events.Add(1)
	return nil
}

// Expect begins to look for works that have a text in them.
func (w *Watch) Expect(marker string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found.Add(-w.found.Count())
	w.marker, w.marked = marker, map[string]bool{}
}

// Await waits until so many works have had what Expect said.
func (w *Watch) Await(ctx context.Context, goal stat.Goal) (int, error) {
	return w.found.Await(ctx, goal)
}

// Record begins to note what is seen.
func (w *Watch) Record() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record, w.seen = true, nil
}

// Recorded ends that, and returns it.
func (w *Watch) Recorded() []Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record = false
	return w.seen
}
