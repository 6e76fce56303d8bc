// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// auditPolicy logs who did what to which object, for every request, when it ends
// (and when a watch begins).
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// AuditEvents returns the apiserver's audit events so far that match every
// filter, oldest first. The apiserver writes an event before it answers the
// request, so what a caller has seen happen is in the log.
func (p *Plane) AuditEvents(filters ...func(*auditv1.Event) bool) ([]auditv1.Event, error) {
	events, _, err := p.AuditEventsFrom(0, filters...)
	return events, err
}

// AuditEventsFrom is AuditEvents of what came after an earlier call: it takes
// the place that the call returned, 0 for the beginning, and returns the next.
// Tests that look often use it, since a plane's log grows all the time.
func (p *Plane) AuditEventsFrom(place int64, filters ...func(*auditv1.Event) bool) ([]auditv1.Event, int64, error) {
	if p.options.NoAudit {
		return nil, place, fmt.Errorf("plane %q was started with Options.NoAudit", p.name)
	}
	file, err := os.Open(p.file("audit.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, place, nil
	}
	if err != nil {
		return nil, place, fmt.Errorf("opening the audit log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(place, io.SeekStart); err != nil {
		return nil, place, fmt.Errorf("reading the audit log from byte %d: %w", place, err)
	}
	var events []auditv1.Event
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, place, nil // a last line without its end is still being written
		}
		if err != nil {
			return nil, place, fmt.Errorf("reading the audit log: %w", err)
		}
		place += int64(len(line))
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, place, fmt.Errorf("reading the audit log: %w in %q", err, line)
		}
		if all(&event, filters) {
			events = append(events, event)
		}
	}
}

func all(event *auditv1.Event, filters []func(*auditv1.Event) bool) bool {
	for _, keep := range filters {
		if !keep(event) {
			return false
		}
	}
	return true
}
