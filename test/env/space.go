// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
)

// FreeEtcd has etcd throw away old revisions and give back their space, and
// takes back the alarm NOSPACE, as an administrator does whose etcd ran full (see
// Options.EtcdFlags, --quota-backend-bytes).
func (p *Plane) FreeEtcd(ctx context.Context) error {
	var now struct {
		Header struct {
			Revision string `json:"revision"`
			MemberID string `json:"member_id"`
		} `json:"header"`
	}
	if err := p.etcdCall(ctx, "kv/range", map[string]any{"key": []byte("x"), "count_only": true}, &now); err != nil {
		return err
	}
	steps := []struct {
		path string
		body map[string]any
	}{
		{"kv/compaction", map[string]any{"revision": now.Header.Revision, "physical": true}},
		{"maintenance/defragment", map[string]any{}},
		{"maintenance/alarm", map[string]any{"action": "DEACTIVATE", "alarm": "NOSPACE", "memberID": now.Header.MemberID}},
	}
	for _, step := range steps {
		if err := p.etcdCall(ctx, step.path, step.body, nil); err != nil {
			return err
		}
	}
	return nil
}

// etcdCall calls a method of etcd in JSON.
func (p *Plane) etcdCall(ctx context.Context, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://etcd/v3/"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.sockets, "etcd.sock"))
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("etcd of plane %q: %w", p.name, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		return fmt.Errorf("etcd of plane %q: %s: %w", p.name, path, err)
	}
	return nil
}
