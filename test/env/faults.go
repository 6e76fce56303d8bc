// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Match selects requests by the fields of Call; an empty field selects all.
type Match struct {
	Verbs     []string
	Resources []string
	Namespace string
	Name      string
}

// Writes are the verbs that change something.
func Writes() []string { return []string{"create", "update", "patch", "delete", "deletecollection"} }

func (m Match) fits(call Call) bool {
	return (len(m.Verbs) == 0 || slices.Contains(m.Verbs, call.Verb)) &&
		(len(m.Resources) == 0 || slices.Contains(m.Resources, call.Resource)) &&
		(m.Namespace == "" || m.Namespace == call.Namespace) &&
		(m.Name == "" || m.Name == call.Name)
}

// Fault is what happens to the requests that match. A request takes the delays
// of all its faults and the answer of the first that has one. While a fault
// matches the LIST of a resource, a watch that would begin with a list is refused
// as by an apiserver without that feature, so that clients turn to LIST.
type Fault struct {
	Match

	// Delay is waited for before the request goes on or is answered.
	Delay time.Duration
	// Status is answered instead of asking the apiserver: 403, 409, 429 (with a
	// Retry-After of one second), 500, ... A create that gets 409 reads it as
	// AlreadyExists, anything else as Conflict.
	Status int
	// EmptyList answers a LIST from the apiserver with its items taken out, Lose
	// without those of these names. Only requests with the verb list are affected.
	EmptyList bool
	Lose      []string

	// Share of the matching requests that the fault hits, drawn with the proxy's
	// seed; 0 stands for all.
	Share float64
	// Times is how many requests it hits at most; 0 stands for no limit.
	Times int
}

// lost tells which items are missing in a LIST; it is nil if the fault takes none out.
func (f *Fault) lost() func(name string) bool {
	switch {
	case f.EmptyList:
		return func(string) bool { return true }
	case len(f.Lose) > 0:
		return func(name string) bool { return slices.Contains(f.Lose, name) }
	}
	return nil
}

type activeFault struct {
	Fault
	hits int
}

// Inject puts a fault in force until remove is called.
func (p *Proxy) Inject(fault Fault) (remove func()) {
	active := &activeFault{Fault: fault}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, active)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = slices.DeleteFunc(p.faults, func(f *activeFault) bool { return f == active })
	}
}

// freeze stops the watches that match; thawed is closed when they go on, and held
// counts those that had something to say, or wanted to begin.
type freeze struct {
	match  Match
	thawed chan struct{}
	held   int
}

// Freeze lets no byte of the matching watches pass, neither of those that are
// open nor of new ones, until thaw is called. The connections stay up, as when
// something between hub and apiserver hangs. Verbs in match are ignored.
func (p *Proxy) Freeze(match Match) (thaw func()) {
	match.Verbs = nil
	frozen := &freeze{match: match, thawed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freezes = append(p.freezes, frozen)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		before := len(p.freezes)
		p.freezes = slices.DeleteFunc(p.freezes, func(f *freeze) bool { return f == frozen })
		if len(p.freezes) < before {
			close(frozen.thawed)
		}
	}
}

// thaw waits until nothing freezes the call.
func (p *Proxy) thaw(ctx context.Context, call Call) error {
	for {
		p.mu.Lock()
		i := slices.IndexFunc(p.freezes, func(f *freeze) bool { return f.match.fits(call) })
		var thawed chan struct{}
		if i >= 0 {
			thawed = p.freezes[i].thawed
			p.freezes[i].held++
		}
		p.mu.Unlock()
		if thawed == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-thawed:
		}
	}
}

// handle serves one request.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	call := p.callOf(r)
	delay, status, lost := p.judge(call)
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
			return
		case <-timer.C:
		}
	}
	if isWatch(call) && p.thaw(r.Context(), call) != nil {
		return
	}
	p.count(call, status)
	if status != 0 {
		refuse(w, r, call, status)
		return
	}
	ctx := context.WithValue(r.Context(), treatmentKey{}, treatment{call: call, lost: lost})
	forward.ServeHTTP(w, r.WithContext(ctx))
}

func (p *Proxy) count(call Call, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if status != 0 {
		p.refused[call]++
		return
	}
	p.passed[call]++
}

// judge decides what happens to a call, and uses up the faults that hit it.
func (p *Proxy) judge(call Call) (delay time.Duration, status int, lost func(name string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asList := call
	asList.Verb = "list"
	for _, fault := range p.faults {
		spent := fault.Times > 0 && fault.hits >= fault.Times
		if spent {
			continue
		}
		lost := fault.lost()
		aboutLists := lost != nil || slices.Contains(fault.Verbs, "list")
		if call.Verb == "watchlist" && aboutLists && fault.fits(asList) {
			return 0, http.StatusUnprocessableEntity, nil
		}
		if !fault.fits(call) || (lost != nil && call.Verb != "list") {
			continue
		}
		if fault.Share > 0 && p.random.Float64() >= fault.Share {
			continue
		}
		fault.hits++
		delay += fault.Delay
		if fault.Status != 0 || lost != nil {
			return delay, fault.Status, lost
		}
	}
	return delay, 0, nil
}

func isWatch(call Call) bool { return call.Verb == "watch" || call.Verb == "watchlist" }

// refuse answers as an apiserver does.
func refuse(w http.ResponseWriter, r *http.Request, call Call, code int) {
	retryAfter := 0
	if code == http.StatusTooManyRequests {
		retryAfter = 1
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	resource, _, _ := strings.Cut(call.Resource, "/")
	err := apierrors.NewGenericServerResponse(code, r.Method, schema.GroupResource{Resource: resource}, call.Name,
		"injected by the fault proxy", retryAfter, false)
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status)
}

// rewrite turns a request to the proxy into one to the apiserver.
func rewrite(r *httputil.ProxyRequest, target *url.URL) {
	r.SetURL(target)
	if treatmentOf(r.In.Context()).lost != nil {
		// An answer that modify can read.
		accept := strings.ReplaceAll(r.Out.Header.Get("Accept"), "application/vnd.kubernetes.protobuf", "application/json")
		r.Out.Header.Set("Accept", strings.ReplaceAll(accept, "application/cbor", "application/json"))
		r.Out.Header.Del("Accept-Encoding")
	}
}

// modify changes the apiserver's answer on its way back.
func (p *Proxy) modify(r *http.Response) error {
	ctx := r.Request.Context()
	how := treatmentOf(ctx)
	if isWatch(how.call) {
		r.Body = &gatedBody{ReadCloser: r.Body, open: func() error { return p.thaw(ctx, how.call) }}
	}
	if how.lost != nil && r.StatusCode == http.StatusOK {
		if err := shorten(r, how.lost); err != nil {
			return fmt.Errorf("taking items out of a list: %w", err)
		}
	}
	return nil
}

// gatedBody holds back what it has read while its gate is shut.
type gatedBody struct {
	io.ReadCloser
	open func() error
}

// Read reads first and waits then: what arrives while frozen must not pass.
func (b *gatedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if shut := b.open(); shut != nil {
		return 0, shut
	}
	return n, err
}

// shorten takes what is lost out of a list or table, and leaves its resourceVersion.
// A list that is empty then has no more pages either.
func shorten(r *http.Response, lost func(name string) bool) error {
	var list map[string]json.RawMessage
	err := json.NewDecoder(r.Body).Decode(&list)
	_ = r.Body.Close()
	if err != nil {
		return err
	}
	left := 0
	for _, field := range []string{"items", "rows"} {
		if list[field] == nil {
			continue
		}
		var items []json.RawMessage
		if err := json.Unmarshal(list[field], &items); err != nil {
			return err
		}
		items = slices.DeleteFunc(items, func(item json.RawMessage) bool { return lost(nameOf(item)) })
		left += len(items)
		if list[field], err = json.Marshal(items); err != nil {
			return err
		}
	}
	var metadata metav1.ListMeta
	if err := json.Unmarshal(list["metadata"], &metadata); err != nil {
		return err
	}
	if left == 0 {
		metadata.Continue, metadata.RemainingItemCount = "", nil
	}
	if list["metadata"], err = json.Marshal(metadata); err != nil {
		return err
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// nameOf is the name of an item of a list, or of a row of a table.
func nameOf(item json.RawMessage) string {
	var named struct {
		metav1.ObjectMeta `json:"metadata"`
		Object            struct {
			metav1.ObjectMeta `json:"metadata"`
		} `json:"object"`
	}
	_ = json.Unmarshal(item, &named) // what has no name is not lost
	return named.Name + named.Object.Name
}
