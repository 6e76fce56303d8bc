// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package obs

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// Check reports why a part is not ready; nil means that it is. It must not
// block: it reads what its owner already knows.
type Check func() error

// Health is a set of named checks behind an HTTP handler. Checks may be added
// while it is served. The zero value has no checks and is healthy.
type Health struct {
	mu     sync.Mutex
	checks map[string]Check
}

// Add names a check; a later one of the same name replaces it.
func (h *Health) Add(name string, check Check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]Check{}
	}
	h.checks[name] = check
}

// Err is the first failing check by name, with its name, or nil.
func (h *Health) Err() error {
	for _, r := range h.results() {
		if r.err != nil {
			return fmt.Errorf("%s: %w", r.name, r.err)
		}
	}
	return nil
}

// ServeHTTP answers 200 "ok" or 503. With ?verbose every check is listed with
// its reason; without it a failing one is.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	results := h.results()
	failed := slices.ContainsFunc(results, func(r result) bool { return r.err != nil })
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	verdict := "ok"
	if failed {
		w.WriteHeader(http.StatusServiceUnavailable)
		verdict = "not ready"
	}
	_, verbose := r.URL.Query()["verbose"]
	for _, result := range results {
		if result.err != nil {
			_, _ = fmt.Fprintf(w, "[-] %s: %v\n", result.name, result.err)
			continue
		}
		if verbose {
			_, _ = fmt.Fprintf(w, "[+] %s ok\n", result.name)
		}
	}
	_, _ = fmt.Fprintln(w, verdict)
}

type result struct {
	name string
	err  error
}

// results runs the checks outside the lock, in order of their names.
func (h *Health) results() []result {
	h.mu.Lock()
	checks := maps.Clone(h.checks)
	h.mu.Unlock()
	results := make([]result, 0, len(checks))
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		results = append(results, result{name, checks[name]()})
	}
	return results
}
