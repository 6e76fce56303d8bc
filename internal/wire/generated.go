// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"strconv"
	"time"

	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
)

// ReplicaSetManager is the field manager by which the hub writes the works of
// ManifestWorkReplicaSets: when it last did is when a work got its content.
const ReplicaSetManager = "fairlead-replicaset"

// Generated is what counts of a work that a ManifestWorkReplicaSet has: one with
// its label.
type Generated struct {
	// ReplicaSet and Placement are the values of its labels.
	ReplicaSet, Placement string
	// Labels are all of its labels, as JSON.
	Labels string
	// Written is when ReplicaSetManager last wrote it, or else when it was created;
	// seconds since 1970.
	Written                                   int64
	Applied, Available, Progressing, Degraded Condition
}

// Condition is the part of a condition of a work's status that rollouts look at;
// the zero Condition is one that is not there.
type Condition struct {
	// Status is 'T' for True, 'F' for False, and else 0.
	Status byte
	// Generation is observedGeneration, Since lastTransitionTime in seconds since
	// 1970.
	Generation, Since int64
}

// True tells whether the condition is there and holds.
func (c Condition) True() bool { return c.Status == 'T' }

// False tells whether the condition is there and does not hold.
func (c Condition) False() bool { return c.Status == 'F' }

// label is how the label of replica sets begins in JSON.
var label = []byte(`"` + workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey + `"`) //nolint:gochecknoglobals // a constant

// generatedParts are pieces of an object's JSON.
type generatedParts struct{ labels, managed, created, status []byte }

// generated reads a work of a replica set; nil for any other.
func generated(p generatedParts) (*Generated, error) {
	if !bytes.Contains(p.labels, label) {
		return nil, nil //nolint:nilnil // most works are not generated
	}
	g, found := &Generated{Labels: string(p.labels), Written: seconds(p.created)}, false
	err := eachMember(p.labels, func(key, value []byte) error {
		switch string(key) {
		case workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey:
			g.ReplicaSet, found = unquoted(value), true
		case workv1alpha1.ManifestWorkReplicaSetPlacementNameLabelKey:
			g.Placement = unquoted(value)
		}
		return nil
	})
	if err != nil || !found {
		return nil, err
	}
	if len(p.managed) > 0 {
		if err := EachElement(p.managed, g.manager); err != nil {
			return nil, err
		}
	}
	if len(p.status) == 0 {
		return g, nil
	}
	return g, eachMember(p.status, func(key, value []byte) error {
		if string(key) != "conditions" || string(value) == "null" {
			return nil
		}
		return EachElement(value, g.condition)
	})
}

// manager takes in an element of managedFields.
func (g *Generated) manager(element []byte) error {
	var ours, status bool
	at := int64(0)
	err := eachMember(element, func(key, value []byte) error {
		switch string(key) {
		case "manager":
			ours = unquoted(value) == ReplicaSetManager
		case "subresource":
			status = true
		case "time":
			at = seconds(value)
		}
		return nil
	})
	if ours && !status && at > g.Written {
		g.Written = at
	}
	return err
}

// condition takes in an element of the status's conditions.
func (g *Generated) condition(element []byte) error {
	var c Condition
	var into *Condition
	err := eachMember(element, func(key, value []byte) (err error) {
		switch string(key) {
		case "type":
			into = g.named(unquoted(value))
		case "status":
			switch unquoted(value) {
			case "True":
				c.Status = 'T'
			case "False":
				c.Status = 'F'
			}
		case "observedGeneration":
			c.Generation, err = strconv.ParseInt(string(value), 10, 64)
		case "lastTransitionTime":
			c.Since = seconds(value)
		}
		return err
	})
	if into != nil {
		*into = c
	}
	return err
}

func (g *Generated) named(kind string) *Condition {
	switch kind {
	case workv1.WorkApplied:
		return &g.Applied
	case workv1.WorkAvailable:
		return &g.Available
	case workv1.WorkProgressing:
		return &g.Progressing
	case workv1.WorkDegraded:
		return &g.Degraded
	}
	return nil
}

// seconds reads a time; 0 if it is none.
func seconds(value []byte) int64 {
	at, err := time.Parse(time.RFC3339, unquoted(value))
	if err != nil {
		return 0
	}
	return at.Unix()
}
