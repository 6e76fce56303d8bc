// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// journal is the independent witness: it watches the spoke's ConfigMaps and
// writes down every creation, change and deletion with its UID.
type journal struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	what  watch.EventType
	name  string
	uid   types.UID
	value string
}

func newJournal(t *testing.T, kube kubernetes.Interface) *journal {
	t.Helper()
	j := &journal{}
	list, err := kube.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return kube.CoreV1().ConfigMaps("default").Watch(ctx, options)
	}}
	w, err := toolswatch.NewRetryWatcherWithContext(t.Context(), list.ResourceVersion, source)
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for event := range w.ResultChan() {
			j.note(event)
		}
	})
	t.Cleanup(func() { w.Stop(); group.Wait() })
	return j
}

func (j *journal) note(event watch.Event) {
	object, ok := event.Object.(*corev1.ConfigMap)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry{event.Type, object.Name, object.UID, object.Data["value"]})
}

// since returns what happened after the first n entries to one name; an empty
// name is every name.
func (j *journal) since(n int, name string) []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []entry
	for _, e := range j.entries[n:] {
		if name == "" || e.name == name {
			out = append(out, e)
		}
	}
	return out
}

// mark is the number of entries so far, for since.
func (j *journal) mark() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// deletions counts what was deleted after the first n entries.
func (j *journal) deletions(n int) []string {
	var out []string
	for _, e := range j.since(n, "") {
		if e.what == watch.Deleted {
			out = append(out, fmt.Sprintf("%s (%s)", e.name, e.uid))
		}
	}
	return out
}
