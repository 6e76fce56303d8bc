// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
)

// synthetic is a ManifestWork as an apiserver would serve it, made by hand: about
// 4.5 KiB with managedFields, a spec of several manifests and a status.
type synthetic struct {
	cluster, name, uid string
	version            uint64
	generation         int64
	app                int // equal numbers have equal specs
	labels             map[string]string
	annotations        map[string]string
	finalizers         []string
	deleted            string
	status             string // JSON, or empty
	ttl                bool   // the spec says after what time it ends
}

func (o synthetic) json() []byte {
	metadata := map[string]any{
		"name": o.name, "namespace": o.cluster, "uid": o.uid, "resourceVersion": formatRV(o.version), "generation": o.generation,
		"creationTimestamp": "2026-01-02T03:04:05Z",
		"managedFields": []any{
			map[string]any{
				"manager": "kubectl", "operation": "Update", "apiVersion": "work.open-cluster-management.io/v1", "fieldsType": "FieldsV1",
				"fieldsV1": map[string]any{"f:metadata": map[string]any{"f:labels": map[string]any{".": map[string]any{}, "f:app": map[string]any{}}}, "f:spec": map[string]any{".": map[string]any{}, "f:workload": map[string]any{}}},
			},
		},
	}
	if o.labels != nil {
		metadata["labels"] = o.labels
	}
	if o.annotations != nil {
		metadata["annotations"] = o.annotations
	}
	if o.finalizers != nil {
		metadata["finalizers"] = o.finalizers
	}
	if o.deleted != "" {
		metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = o.deleted, 0
	}
	spec := map[string]any{"workload": map[string]any{"manifests": manifests(o.app)}}
	if o.ttl {
		spec["deleteOption"] = map[string]any{"propagationPolicy": "Foreground", "ttlSecondsAfterFinished": 60}
	}
	object := map[string]any{"apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork", "metadata": metadata, "spec": spec}
	if o.status != "" {
		object["status"] = json.RawMessage(o.status)
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return []byte(err.Error()) // the test that reads it shows it
	}
	return raw
}

func manifests(app int) []any {
	name := fmt.Sprintf("app-%d", app)
	container := map[string]any{
		"name": "web", "image": fmt.Sprintf("registry.example/%s:1.2.%d", name, app), "ports": []any{map[string]any{"containerPort": 8080, "name": "http"}},
		"resources":      map[string]any{"requests": map[string]string{"cpu": "100m", "memory": "128Mi"}, "limits": map[string]string{"cpu": "1", "memory": "256Mi"}},
		"env":            []any{map[string]string{"name": "MODE", "value": "production"}, map[string]string{"name": "APP", "value": name}},
		"readinessProbe": map[string]any{"httpGet": map[string]any{"path": "/ready", "port": "http"}, "periodSeconds": 5},
	}
	labels := map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop"}
	return []any{
		map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name, "namespace": "shop", "labels": labels},
			"spec": map[string]any{
				"replicas": 3, "selector": map[string]any{"matchLabels": labels},
				"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{container}}},
			},
		},
		map[string]any{
			"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name, "namespace": "shop", "labels": labels},
			"spec": map[string]any{"selector": labels, "ports": []any{map[string]any{"port": 80, "targetPort": "http"}}},
		},
		map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": "shop"},
			"data": map[string]string{"config.yaml": strings.Repeat("key: value of some length\n", 30)},
		},
	}
}

const appliedStatus = `{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:06Z","message":"Apply manifest work complete","observedGeneration":1,"reason":"AppliedManifestWorkComplete","status":"True","type":"Applied"},` +
	`{"lastTransitionTime":"2026-01-02T03:04:07Z","message":"All resources are available","observedGeneration":1,"reason":"ResourcesAvailable","status":"True","type":"Available"}],` +
	`"resourceStatus":{"manifests":[{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:06Z","message":"Apply manifest complete","reason":"AppliedManifestComplete","status":"True","type":"Applied"}],` +
	`"resourceMeta":{"group":"apps","kind":"Deployment","name":"app","namespace":"shop","ordinal":0,"resource":"deployments","version":"v1"},"statusFeedback":{}}]}}`

func uidOf(n int) string { return fmt.Sprintf("%08x-1111-4222-8333-%012x", n, n) }

// feed is an index that is fed by hand.
type feed struct {
	*Index
	t testing.TB
}

func newFeed(t testing.TB) feed {
	t.Helper()
	x, err := newIndex()
	require.NoError(t, err)
	x.listing = 1
	return feed{Index: x, t: t}
}

// line sends one event of a watch.
func (f feed) line(kind string, o synthetic) {
	f.t.Helper()
	at, _, err := f.event([]byte(`{"type":"` + kind + `","object":` + string(o.json()) + `}`))
	require.NoError(f.t, err)
	f.highWater.Store(at)
}

// wrote is the answer to a write of ours.
func (f feed) wrote(o synthetic, session uint64) {
	f.t.Helper()
	s, err := wire.Scan(o.json())
	require.NoError(f.t, err)
	f.put(s, written, session)
}

// marks collects what a cluster's subscriber is told.
type marks struct {
	mu  sync.Mutex
	all []Mark
}

func (m *marks) mark(mark Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, mark)
}

// take returns what was told since the last take.
func (m *marks) take() []Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.all
	m.all = nil
	return all
}

// await waits for exactly one mark and takes it.
func (m *marks) await(t testing.TB) Mark {
	t.Helper()
	eventually(t, "a mark", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.all) > 0
	})
	all := m.take()
	require.Len(t, all, 1)
	return all[0]
}

func scopeOf(cluster, uid string) identity.Scope {
	return identity.ScopeOf(identity.Agent{Cluster: cluster, Name: "agent"}, uid)
}

func key(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }
