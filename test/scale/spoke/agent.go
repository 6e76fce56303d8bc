// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

// Setup is what the parent says.
type Setup struct {
	Kubeconfig string
	QPS        float32
	Burst      int
}

// Layout says which works there are: the same layout makes the same works.
type Layout struct {
	Name             string // of works and objects
	Works, Manifests int
	Namespaces       []string // taken in turn by works
	Bytes            int      // of a ConfigMap's data
}

// Counts are the agent's requests so far, and the watches that are open.
type Counts struct{ Reads, Writes, Watches, Open int }

var errStopped = errors.New("the parent has ended the agent")

// held is the agent's store, and takes its reports.
type held struct {
	mu            sync.Mutex
	works         map[string]*work.Desired
	applied, gone map[string]struct{}
	counts        Counts

	appliedNow, goneNow stat.Tally
}

// runAgent is the agent's process; file has its Setup.
func runAgent(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var setup Setup
	if err := json.Unmarshal(text, &setup); err != nil { //nolint:musttag // both ends are this program
		return err
	}
	spoke, err := clientcmd.BuildConfigFromFlags("", setup.Kubeconfig)
	if err != nil {
		return err
	}
	h := &held{works: map[string]*work.Desired{}, applied: map[string]struct{}{}, gone: map[string]struct{}{}}
	spoke.QPS, spoke.Burst = setup.QPS, setup.Burst
	spoke.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{h, next} })
	controller, err := work.New(work.Config{
		REST: spoke, HubHash: strings.Repeat("0", 64), Source: h, Reporter: h,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return controller.Run(ctx) })
	group.Go(func() error {
		return errors.Join(child.Serve(ctx, os.Stdin, os.Stdout, h.handlers(controller)), errStopped)
	})
	if err := group.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// waited is how long anything may take.
const waited = 20 * time.Minute

func (h *held) handlers(c *work.Controller) child.Handlers {
	return child.Handlers{
		"deliver": child.Do(func(_ context.Context, l Layout) (child.None, error) { return child.None{}, h.deliver(c, l) }),
		"remove": child.Do(func(context.Context, child.None) (child.None, error) {
			h.remove(c)
			return child.None{}, nil
		}),
		"applied": child.Do(func(ctx context.Context, n int) (int, error) {
			return h.appliedNow.Await(ctx, stat.Goal{Count: n, Within: waited})
		}),
		"gone": child.Do(func(ctx context.Context, n int) (int, error) {
			return h.goneNow.Await(ctx, stat.Goal{Count: n, Within: waited})
		}),
		"counts": child.Do(func(context.Context, child.None) (Counts, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.counts, nil
		}),
	}
}

// deliver takes works in, as a hub would send them.
func (h *held) deliver(c *work.Controller, l Layout) error {
	for i := range l.Works {
		made, err := l.work(i)
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.works[made.Name] = &work.Desired{Work: made, Digest: []byte(made.Name)}
		h.mu.Unlock()
		c.Enqueue(made.Name)
	}
	return nil
}

// remove has all works deleted.
func (h *held) remove(c *work.Controller) {
	h.mu.Lock()
	for name, desired := range h.works {
		h.works[name] = &work.Desired{Work: desired.Work, Digest: desired.Digest, Delete: work.DeleteRequested}
	}
	h.mu.Unlock()
	for _, name := range h.Names() {
		c.Enqueue(name)
	}
}

// work makes the i-th work.
func (l Layout) work(i int) (*workv1.ManifestWork, error) {
	made := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("%s-%d", l.Name, i), UID: types.UID(fmt.Sprintf("%s-%d", l.Name, i)), Generation: 1,
	}}
	for n := range l.Manifests {
		raw, err := json.Marshal(l.manifest(i, n))
		if err != nil {
			return nil, err
		}
		made.Spec.Workload.Manifests = append(made.Spec.Workload.Manifests, workv1.Manifest{RawExtension: runtime.RawExtension{Raw: raw}})
	}
	return made, nil
}

// manifest makes one of four kinds.
func (l Layout) manifest(i, n int) map[string]any {
	object := map[string]any{"apiVersion": "v1", "metadata": map[string]any{
		"name": l.object(i, n), "namespace": l.Namespaces[i%len(l.Namespaces)], "labels": map[string]any{"app": l.Name},
	}}
	switch n % 4 {
	case 0:
		object["kind"], object["data"] = "ConfigMap", map[string]any{"k": "v", "text": strings.Repeat("x", l.Bytes)}
	case 1:
		object["kind"], object["stringData"] = "Secret", map[string]any{"k": "v"}
	case 2:
		object["kind"], object["spec"] = "Service", map[string]any{"clusterIP": "None", "selector": map[string]any{"app": l.Name}}
	case 3:
		object["kind"] = "ServiceAccount"
	}
	return object
}

func (l Layout) object(i, n int) string { return fmt.Sprintf("%s-%d-%d", l.Name, i, n) }

// Get is work.Source.
func (h *held) Get(name string) (work.Desired, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	desired, ok := h.works[name]
	if !ok {
		return work.Desired{}, false
	}
	return *desired, true
}

// Names is work.Source.
func (h *held) Names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make([]string, 0, len(h.works))
	for name := range h.works {
		names = append(names, name)
	}
	return names
}

// Report is work.Reporter.
func (h *held) Report(r work.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case r.Finalized:
		if _, known := h.gone[r.Name]; !known {
			h.gone[r.Name] = struct{}{}
			h.goneNow.Add(1)
		}
		delete(h.works, r.Name)
	case meta.IsStatusConditionTrue(r.Status.Conditions, workv1.WorkApplied) && meta.IsStatusConditionTrue(r.Status.Conditions, workv1.WorkAvailable):
		if _, known := h.applied[r.Name]; !known {
			h.applied[r.Name] = struct{}{}
			h.appliedNow.Add(1)
		}
	}
}

// counter counts requests.
type counter struct {
	*held

	next http.RoundTripper
}

// RoundTrip counts a request.
func (h counter) RoundTrip(r *http.Request) (*http.Response, error) {
	watching := r.URL.Query().Has("watch")
	h.mu.Lock()
	switch {
	case watching:
		h.counts.Watches++
		h.counts.Open++
		context.AfterFunc(r.Context(), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.counts.Open--
		})
	case r.Method == http.MethodGet:
		h.counts.Reads++
	default:
		h.counts.Writes++
	}
	h.mu.Unlock()
	return h.next.RoundTrip(r)
}
