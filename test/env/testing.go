// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// StartPlane starts a plane for one test and stops it when the test ends. When
// the test fails, the plane's folder stays and the test's log names it. Prefer
// Shared: a plane takes some seconds.
func StartPlane(t testing.TB, options Options) *Plane {
	t.Helper()
	plane, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && plane.ownDir {
			plane.StopAndKeep()
			t.Logf("logs of plane %q: %s", plane.name, plane.dir)
			return
		}
		plane.Stop()
	})
	return plane
}

// shared is the plane of the running test binary. It is the one mutable
// variable of this package: TestMain has no other way to hand it to tests.
var shared struct {
	sync.Mutex
	options *Options
	plane   *Plane
	err     error
	ran     map[string]bool // the names of tests that run once on a plane
}

// Main is the body of a TestMain whose package uses Shared: it runs the tests,
// calls stop for what they share on the plane, stops the plane if any of them
// started it, and exits. After a failure the plane's folder stays, and its path
// is printed. See Verify for what else fails.
//
//	func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "work"}) }
func Main(m *testing.M, options Options, stop ...func()) {
	shared.options = &options
	Verify(m, func(code int) int {
		for _, each := range stop {
			each()
		}
		return stopShared(code)
	})
}

func stopShared(code int) int {
	shared.Lock()
	defer shared.Unlock()
	plane := shared.plane
	switch {
	case plane == nil:
	case code == 0:
		plane.Stop()
	default:
		plane.StopAndKeep()
		fmt.Fprintf(os.Stderr, "logs of plane %q: %s\n", plane.name, plane.dir)
	}
	return code
}

// Shared returns the one plane of the test package, started on first use with
// the options given to Main. Tests use it in parallel, in namespaces and with
// names of their own, and leave its components alone.
func Shared(t testing.TB) *Plane {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.options == nil {
		t.Fatal("env.Shared needs a TestMain in this package: func TestMain(m *testing.M) { env.Main(m, env.Options{...}) }")
	}
	if shared.plane == nil && shared.err == nil {
		// Not the context of this test: the plane outlives it.
		shared.plane, shared.err = Start(context.WithoutCancel(t.Context()), *shared.options)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.plane
}

// Once says that a test has objects whose names others chose, so that it runs once
// on a plane: when it runs again, as with -count=2, Shared starts another. It is
// called before Shared, by tests that do not run in parallel.
func Once(t testing.TB) {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.ran[t.Name()] && shared.plane != nil {
		shared.plane.Stop()
		shared.plane, shared.ran = nil, nil
	}
	if shared.ran == nil {
		shared.ran = map[string]bool{}
	}
	shared.ran[t.Name()] = true
}

// Unique makes a name that no other test has on this plane, nor the same one when
// it runs again: what is not in a namespace stays until the plane ends. Names of one
// prefix sort as they were made.
func (p *Plane) Unique(prefix string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names++
	return fmt.Sprintf("%s-%04d", prefix, p.names)
}

// Namespace makes a namespace of a new name that begins with prefix, for one test
// on a shared plane, and returns its name. It stays until the plane ends.
func (p *Plane) Namespace(t testing.TB, prefix string) string {
	t.Helper()
	var name string
	err := p.withClient(func(c kubernetes.Interface) error {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
		made, err := c.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
		if err == nil {
			name = made.Name
		}
		return err
	})
	if err != nil {
		t.Fatalf("making a namespace in plane %q: %v", p.name, err)
	}
	return name
}
