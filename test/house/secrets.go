// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/pki"
)

// Canary stands in the content of works for what must not be told to anybody but
// their cluster (T73).
const Canary = "canary-that-must-not-sing"

// told is what was found where it must not be, in logs and metrics of processes that
// this package starts and in objects.
var told = leaks{secrets: map[string]string{
	Canary: "the content of a work", "PRIVATE KEY": "a private key",
}}

type leaks struct {
	mu      sync.Mutex
	secrets map[string]string // to what it is
	found   []string
	looked  int
}

// add has a secret looked for from now on.
func (l *leaks) add(secret, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secrets[secret] = what
}

// addJoin has the token of a join string looked for, and the string itself.
func (l *leaks) addJoin(text string) {
	if join, err := pki.ParseJoinString(text); err == nil { // else it is one that a test made up
		_, secret, _ := strings.Cut(join.Token, ".")
		l.add(secret, "a join token's secret")
		l.add(text, "a join string")
	}
}

// look remembers which secrets are in a text.
func (l *leaks) look(where string, text []byte) {
	l.mu.Lock()
	l.looked++
	secrets := maps.Clone(l.secrets)
	l.mu.Unlock()
	for secret, what := range secrets {
		if bytes.Contains(text, []byte(secret)) {
			l.record(what + " is in " + where)
		}
	}
}

func (l *leaks) record(finding string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.found, finding) {
		l.found = append(l.found, finding)
	}
}

// Untold is the exit code of a package's tests, given what it would be: 1 where a log
// or a metric of a process that they ran, or an object that Search was shown, has a
// secret in it. It is for TestMain, when all processes have ended.
func Untold(code int) int {
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, found := range told.found {
		fmt.Fprintln(os.Stderr, "T73:", found)
	}
	if len(told.found) > 0 {
		return max(code, 1)
	}
	if code == 0 {
		fmt.Fprintf(os.Stderr, "T73: none of %d secrets in %d logs, metrics and kinds of objects\n", len(told.secrets), told.looked)
	}
	return code
}

// Search looks for secrets in all objects of an apiserver that say what happened:
// Events, conditions, statuses. What its user wrote into the spec of a work is not
// looked at. What it cannot read counts as a finding.
func Search(ctx context.Context, config *rest.Config) {
	if err := told.search(ctx, config); err != nil {
		told.record("objects that could not be read: " + err.Error())
	}
}

func (l *leaks) search(ctx context.Context, config *rest.Config) error {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	var errs []error
	for _, kind := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "events"},
		{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
		{Group: "cluster.open-cluster-management.io", Version: "v1", Resource: "managedclusters"},
		{Group: "work.open-cluster-management.io", Version: "v1", Resource: "manifestworks"},
		{Group: "work.open-cluster-management.io", Version: "v1", Resource: "appliedmanifestworks"},
		v1alpha1.GroupVersion().WithResource("clusterenrollments"),
	} {
		list, err := objects.Resource(kind).List(ctx, metav1.ListOptions{})
		if err != nil {
			if !apierrors.IsNotFound(err) { // a spoke has fewer kinds than a hub
				errs = append(errs, err)
			}
			continue
		}
		for _, object := range list.Items {
			if kind.Resource == "manifestworks" {
				delete(object.Object, "spec")
			}
			text, err := json.Marshal(object.Object)
			errs = append(errs, err)
			l.look(fmt.Sprintf("%s %s/%s", strings.TrimSuffix(kind.Resource, "s"), object.GetNamespace(), object.GetName()), text)
		}
	}
	return errors.Join(errs...)
}
