// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// ErrUnknown says that the spoke serves no such kind or resource, by a discovery that left nothing out.
var ErrUnknown = errors.New("no such kind")

// Mapping is how a kind is served.
type Mapping struct {
	Resource   schema.GroupVersionResource
	Namespaced bool
}

// Definitions is the resource of CustomResourceDefinitions, by which most kinds come that a spoke does not serve yet.
func Definitions() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

// Discoverer lists what the spoke serves; discovery.DiscoveryClient does.
type Discoverer interface {
	ServerGroupsAndResourcesWithContext(ctx context.Context) ([]*metav1.APIGroup, []*metav1.APIResourceList, error)
}

// refreshEvery and refreshBurst bound how often unknown kinds make the mapper read discovery again: two works that wait for
// a CRD cost a request or two a second, and the burst lets a CRD and its objects in one work converge at once.
const (
	refreshEvery = time.Second
	refreshBurst = 5
)

// young is how long what was read is not read again for the first question about a kind: several kinds that one work misses
// cost one discovery.
const young = 100 * time.Millisecond

// Mapper finds the resource that serves a kind. What it learned is kept until a kind is asked for that it does not know, or
// until Forget. All methods may be called concurrently.
type Mapper struct {
	source  Discoverer
	limiter *rate.Limiter
	flight  singleflight.Group
	current atomic.Pointer[table]
	stale   atomic.Bool
}

// table is what one discovery said; what it says is never changed once it is current.
type table struct {
	read   time.Time
	byKind map[schema.GroupVersionKind]Mapping
	byName map[schema.GroupResource][]Mapping
	// missed holds the questions that it had no answer to.
	missed sync.Map
	// unread holds the groups that discovery could not read: nothing in them is unknown for certain.
	unread map[string]error
}

// NewMapper returns a mapper that reads source when it is first asked.
func NewMapper(source Discoverer) *Mapper {
	return &Mapper{source: source, limiter: rate.NewLimiter(rate.Every(refreshEvery), refreshBurst)}
}

// ForKind returns the mapping of exactly this group, version and kind. It may read discovery. The error wraps ErrUnknown when
// the spoke does not serve the kind, and says so in the words that kubectl's users know.
func (m *Mapper) ForKind(ctx context.Context, kind schema.GroupVersionKind) (Mapping, error) {
	var found Mapping
	err := m.lookup(ctx, kind, kind.Group, func(t *table) bool {
		var ok bool
		found, ok = t.byKind[kind]
		return ok
	})
	if errors.Is(err, ErrUnknown) {
		return Mapping{}, fmt.Errorf("the server doesn't have a resource type %q in %s: %w", kind.Kind, kind.GroupVersion(), ErrUnknown)
	}
	return found, err
}

// ForResource returns how a resource is served now, whatever the version: the given one if it still is, else the version that
// discovery lists first. The error wraps ErrUnknown when no version is served.
func (m *Mapper) ForResource(ctx context.Context, resource schema.GroupVersionResource) (Mapping, error) {
	var served []Mapping
	err := m.lookup(ctx, resource, resource.Group, func(t *table) bool {
		served = t.byName[resource.GroupResource()]
		return len(served) > 0
	})
	if err != nil {
		return Mapping{}, fmt.Errorf("finding how %s is served: %w", resource.GroupResource(), err)
	}
	same := func(s Mapping) bool { return s.Resource.Version == resource.Version }
	if i := slices.IndexFunc(served, same); i >= 0 {
		return served[i], nil
	}
	return served[0], nil
}

// Forget distrusts what was learned: the next question reads discovery again, as far as the rate limit allows. To be called
// when the apiserver answers that a mapped resource does not exist.
func (m *Mapper) Forget() {
	m.stale.Store(true)
}

// worthReading reports whether to read discovery again for a question that the table does not answer.
func (m *Mapper) worthReading(t *table, asked any) bool {
	_, again := t.missed.LoadOrStore(asked, struct{}{})
	return again || m.stale.Load() || time.Since(t.read) >= young
}

// lookup asks found, and once more after a refresh if it did not know; asked is the question.
func (m *Mapper) lookup(ctx context.Context, asked any, group string, found func(*table) bool) error {
	t := m.current.Load()
	if t != nil && !m.stale.Load() && found(t) {
		return nil
	}
	if t == nil || m.worthReading(t, asked) && m.limiter.Allow() {
		fresh, err := m.refresh(ctx)
		if err != nil {
			return err
		}
		t = fresh
	}
	if found(t) {
		return nil
	}
	if err, ok := t.unread[group]; ok {
		return fmt.Errorf("discovery of API group %q is incomplete: %w", group, err)
	}
	return ErrUnknown
}

// refresh reads discovery, once for all who ask at the same time.
func (m *Mapper) refresh(ctx context.Context) (*table, error) {
	_, err, _ := m.flight.Do("", func() (any, error) {
		m.stale.Store(false)
		_, lists, err := m.source.ServerGroupsAndResourcesWithContext(ctx)
		failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
		if err != nil && !partial {
			return nil, fmt.Errorf("discovering the spoke's kinds: %w", err)
		}
		m.current.Store(newTable(lists, failed))
		return nil, nil //nolint:nilnil // the result is in m.current
	})
	return m.current.Load(), err
}

// newTable indexes what discovery listed; subresources, which have a slash in their name, are left out.
func newTable(lists []*metav1.APIResourceList, failed map[schema.GroupVersion]error) *table {
	t := &table{read: time.Now(), byKind: map[schema.GroupVersionKind]Mapping{}, byName: map[schema.GroupResource][]Mapping{}, unread: map[string]error{}}
	for gv, cause := range failed {
		t.unread[gv.Group] = cause
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, served := range list.APIResources {
			if !strings.Contains(served.Name, "/") {
				t.add(gv.WithKind(served.Kind), Mapping{Resource: gv.WithResource(served.Name), Namespaced: served.Namespaced})
			}
		}
	}
	return t
}

// add takes one resource in; of several resources of one kind the first listed serves it.
func (t *table) add(kind schema.GroupVersionKind, mapping Mapping) {
	if _, taken := t.byKind[kind]; !taken {
		t.byKind[kind] = mapping
	}
	name := mapping.Resource.GroupResource()
	t.byName[name] = append(t.byName[name], mapping)
}

// IsUnserved reports whether err is the apiserver's answer that it has no such resource at all, and not that it has no such
// object.
func IsUnserved(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(cause metav1.StatusCause) bool {
		return cause.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}
