// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"fairlead.dev/fairlead/internal/identity"
)

// workBytes is how big a work's JSON is made.
const workBytes = 3 << 10

const worksPath = "/apis/work.open-cluster-management.io/v1"

// CreateWorks creates one work per cluster, of 3 KiB, all different, with the
// finalizer that ApplyWork and the webhook would have put on it. Without clusters it
// is for all of them.
func (w *World) CreateWorks(ctx context.Context, name string, clusters ...string) error {
	if len(clusters) == 0 {
		clusters = w.Clusters
	}
	return each(ctx, clusters, func(ctx context.Context, _ int, cluster string) error {
		return w.send(ctx, http.MethodPost, worksPath+"/namespaces/"+cluster+"/manifestworks", "application/json", work(cluster, name))
	})
}

// work is a Deployment, a Service and a ConfigMap that fills it up.
func work(cluster, name string) []byte {
	labels := map[string]any{"app": "web"}
	meta := func(n string) map[string]any {
		return map[string]any{"name": n, "namespace": "default", "labels": labels}
	}
	render := func(filler string) []byte {
		manifests := []any{
			map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"), "spec": map[string]any{
				"replicas": 3, "selector": map[string]any{"matchLabels": labels},
				"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{
					map[string]any{"name": "web", "image": "registry.example/web:1", "ports": []any{map[string]any{"containerPort": 8080}}},
				}}},
			}},
			map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": meta("web"), "spec": map[string]any{
				"selector": labels, "ports": []any{map[string]any{"port": 80, "targetPort": 8080}},
			}},
			map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("web"), "data": map[string]any{"filler": filler}},
		}
		text, err := json.Marshal(map[string]any{
			"apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
			"metadata": map[string]any{"name": name, "namespace": cluster, "finalizers": []any{identity.ManifestWorkFinalizer}},
			"spec":     map[string]any{"workload": map[string]any{"manifests": manifests}},
		})
		if err != nil {
			panic(err) // maps of strings can be marshalled
		}
		return text
	}
	return render(filler(cluster+"/"+name, workBytes-len(render(""))))
}

// filler is text that does not compress to nothing: digests in hex.
func filler(seed string, size int) string {
	var text bytes.Buffer
	for sum := sha256.Sum256([]byte(seed)); text.Len() < size; sum = sha256.Sum256(sum[:]) {
		text.WriteString(hex.EncodeToString(sum[:]))
	}
	return text.String()[:size]
}

// Touch changes a label of a work, which is a change that is delivered.
func (w *World) Touch(ctx context.Context, cluster, name, value string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{"touched":%q}}}`, value)
	return w.send(ctx, http.MethodPatch, worksPath+"/namespaces/"+cluster+"/manifestworks/"+name, "application/merge-patch+json", []byte(patch))
}

func (w *World) send(ctx context.Context, verb, path, kind string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, verb, w.config.Host+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", kind)
	_, err = w.do(request)
	return err
}

func (w *World) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.config.Host+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	return w.do(request)
}

func (w *World) do(request *http.Request) ([]byte, error) {
	response, err := w.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, text)
	}
	return text, err
}
