// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
)

// TestMain drops apimachinery's handler that slows errors down: it remembers when the last one came, and a bubble's clock is far
// behind that.
func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil //nolint:reassign // it is a variable so that it can be
	goleak.VerifyTestMain(m)
}

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

func named(name string) Object { return Object{Resource: configMaps, Namespace: "n", Name: name} }

func live(name, version string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, ResourceVersion: version},
	}
}

// scene is a watcher on a fake apiserver. It must be used inside a bubble.
type scene struct {
	*Watcher
	client *fake.FakeMetadataClient
	told   map[string]int
	stop   func()
}

func newScene(t *testing.T, limit int, objects ...runtime.Object) *scene {
	t.Helper()
	scheme := fake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	s := &scene{client: fake.NewSimpleMetadataClient(scheme, objects...), told: map[string]int{}}
	changes := make(chan string, 1000)
	s.Watcher = New(Config{Client: s.client, Logger: slog.New(slog.DiscardHandler), Limit: limit, Changed: func(owner string) { changes <- owner }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for owner := range changes {
			s.told[owner]++
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = func() {
		cancel()
		require.NoError(t, <-ended)
		close(changes)
		<-done
	}
	return s
}

func (s *scene) opened(verb string) int {
	n := 0
	for _, action := range s.client.Actions() {
		if action.GetVerb() == verb {
			n++
		}
	}
	return n
}

func TestTellsOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0, live("a", "1"))
		defer s.stop()
		s.Watch("one", []Object{named("a"), named("b")})
		s.Watch("two", []Object{named("b")})
		synctest.Wait()
		version, known := s.Version(named("a"))
		require.True(t, known)
		require.Equal(t, "1", version)
		version, known = s.Version(named("b"))
		require.True(t, known, "that it is not there is known too")
		require.Empty(t, version)

		before := map[string]int{"one": s.told["one"], "two": s.told["two"]}
		require.NoError(t, s.client.Tracker().Create(configMaps, live("b", "2"), "n"))
		synctest.Wait()
		require.Equal(t, map[string]int{"one": before["one"] + 1, "two": before["two"] + 1}, s.told)
		require.NoError(t, s.client.Tracker().Update(configMaps, live("a", "3"), "n"))
		synctest.Wait()
		require.Equal(t, map[string]int{"one": before["one"] + 2, "two": before["two"] + 1}, s.told, "a belongs to one alone")

		s.Watch("one", nil)
		synctest.Wait()
		_, known = s.Version(named("a"))
		require.False(t, known)
		_, known = s.Version(named("b"))
		require.True(t, known, "two still wants it")
		s.Watch("two", nil)
		synctest.Wait()
		require.Empty(t, s.kinds)
		require.Zero(t, s.running, "nobody wants to hear of anything, so nothing is watched")
	})
}

func TestManyObjectsShareAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0)
		defer s.stop()
		var objects []Object
		for i := range narrow {
			objects = append(objects, named(fmt.Sprint("c", i)))
		}
		s.Watch("one", objects)
		synctest.Wait()
		require.Equal(t, narrow, s.running)
		s.Watch("one", append(objects, named("one-more")))
		synctest.Wait()
		require.Equal(t, 1, s.running)
		_, known := s.Version(named("one-more"))
		require.True(t, known)

		s.Watch("two", []Object{named("late")})
		synctest.Wait()
		_, known = s.Version(named("late"))
		require.False(t, known, "the list was taken in before it was asked for")
		s.Read(named("late"), "7")
		version, known := s.Version(named("late"))
		require.True(t, known)
		require.Equal(t, "7", version)
		s.Read(named("late"), "6")
		version, _ = s.Version(named("late"))
		require.Equal(t, "7", version, "what a watch or an earlier read said counts")
	})
}

func TestForbiddenNamespaceIsWatchedByObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0, live("c0", "1"))
		defer s.stop()
		s.client.PrependReactor("list", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
			if action.(clienttesting.ListActionImpl).GetListRestrictions().Fields.Empty() {
				return true, nil, apierrors.NewForbidden(configMaps.GroupResource(), "", nil)
			}
			return false, nil, nil
		})
		var objects []Object
		for i := range narrow + 3 {
			objects = append(objects, named(fmt.Sprint("c", i)))
		}
		s.Watch("one", objects)
		synctest.Wait()
		require.Equal(t, narrow+3, s.running)
		version, known := s.Version(named("c0"))
		require.True(t, known)
		require.Equal(t, "1", version)
	})
}

func in(namespace, name string) Object {
	return Object{Resource: configMaps, Namespace: namespace, Name: name}
}

// scattered is one object in each of n namespaces.
func scattered(n int) []Object {
	var objects []Object
	for i := range n {
		objects = append(objects, in(fmt.Sprintf("n%03d", i), "c"))
	}
	return objects
}

func TestManyNamespacesShareAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0)
		defer s.stop()
		s.Watch("one", scattered(broad))
		synctest.Wait()
		require.Equal(t, broad, s.running)
		s.Watch("two", []Object{in("more", "c"), in("n000", "c")})
		synctest.Wait()
		require.Equal(t, 1, s.running)
		for _, o := range append(scattered(broad), in("more", "c")) {
			_, known := s.Version(o)
			require.True(t, known, "%v", o)
		}

		before := s.told["one"]
		foreign := live("other", "8")
		foreign.Namespace = "n000"
		require.NoError(t, s.client.Tracker().Create(configMaps, foreign, "n000"))
		ours := live("c", "9")
		ours.Namespace = "n001"
		require.NoError(t, s.client.Tracker().Create(configMaps, ours, "n001"))
		synctest.Wait()
		require.Equal(t, before+1, s.told["one"], "told of its own object, not of what is beside it")
		version, _ := s.Version(in("n001", "c"))
		require.Equal(t, "9", version)

		s.Watch("two", []Object{in("late", "c")})
		s.Read(in("late", "c"), "7")
		version, known := s.Version(in("late", "c"))
		require.True(t, known)
		require.Equal(t, "7", version)

		s.Watch("one", nil)
		s.Watch("two", nil)
		synctest.Wait()
		require.Zero(t, s.running)
		require.Empty(t, s.kinds)
	})
}

func TestForbiddenEverywhereIsWatchedByNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0)
		defer s.stop()
		s.client.PrependReactor("list", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
			if action.GetNamespace() == "" {
				return true, nil, apierrors.NewForbidden(configMaps.GroupResource(), "", nil)
			}
			return false, nil, nil
		})
		s.Watch("one", scattered(broad+5))
		synctest.Wait()
		require.Equal(t, broad+5, s.running)
		for _, o := range scattered(broad + 5) {
			_, known := s.Version(o)
			require.True(t, known, "%v", o)
		}
	})
}

func TestOwnerOfAllIsToldOfEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0, live("a", "1"))
		defer s.stop()
		s.Watch("any", []Object{named("")})
		synctest.Wait()
		before := s.told["any"]
		require.NoError(t, s.client.Tracker().Create(configMaps, live("b", "2"), "n"))
		synctest.Wait()
		require.Equal(t, before+1, s.told["any"])
		require.NoError(t, s.client.Tracker().Update(configMaps, live("a", "3"), "n"))
		synctest.Wait()
		require.Equal(t, before+2, s.told["any"])
	})
}

func TestListsAreGatheredWithoutContent(t *testing.T) {
	heavy := live("a", "1")
	heavy.Annotations, heavy.ManagedFields = map[string]string{"big": "text"}, []metav1.ManagedFieldsEntry{{Manager: "somebody"}}
	kept, err := (&watch{}).Transformer()(heavy)
	require.NoError(t, err)
	require.Equal(t, live("a", "1"), kept)
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 2)
		defer s.stop()
		s.Watch("one", []Object{named("a"), named("b"), named("c")})
		synctest.Wait()
		require.Equal(t, 2, s.running)
		_, known := s.Version(named("c"))
		require.False(t, known, "it is to be polled")
		require.Equal(t, 2, s.opened("watch"))
	})
}

func TestFailureMakesKnowledgeOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 0)
		defer s.stop()
		var failing atomic.Bool
		failing.Store(true)
		s.client.PrependReactor("list", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			if failing.Load() {
				return true, nil, apierrors.NewInternalError(errors.New("boom"))
			}
			return false, nil, nil
		})
		s.Watch("one", []Object{named("a")})
		synctest.Wait()
		_, known := s.Version(named("a"))
		require.False(t, known)
		failing.Store(false)
		<-time.After(2 * time.Minute) // the reflector backs off, up to a minute
		synctest.Wait()
		_, known = s.Version(named("a"))
		require.True(t, known)
	})
}
