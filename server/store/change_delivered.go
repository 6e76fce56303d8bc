// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"maps"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/internal/wire"
)

// deliveredChange sets the hub's own condition Delivered=False on a work; with
// no reason it takes the condition away.
type deliveredChange struct {
	reason, message string
	clock           clock.PassiveClock
}

func (*deliveredChange) gone() Result { return Result{Outcome: StaleUID} }

func (c *deliveredChange) look(_ *StatusWriter, _ *job, t *target) step {
	if t.raw == nil && (t.undelivered || c.reason != "") {
		return step{read: true} // conditions are written as a whole list
	}
	stored, err := storedStatus(t.raw)
	if t.raw == nil || err != nil {
		return settle(Result{Outcome: Persisted})
	}
	have := deliveredOf(stored)
	if have == nil && c.reason == "" || have != nil && have["reason"] == c.reason && have["message"] == c.message {
		return settle(Result{Outcome: Persisted})
	}
	return step{}
}

func (c *deliveredChange) patch(_ *job, t *target) (string, map[string]any, error) {
	stored, err := storedStatus(t.raw)
	if err != nil {
		return "", nil, err
	}
	since := c.clock.Now().UTC().Format(time.RFC3339)
	if have := deliveredOf(stored); have != nil {
		if at, ok := have["lastTransitionTime"].(string); ok {
			since = at
		}
	}
	wanted := withoutDelivered(stored)
	if c.reason != "" {
		wanted = withCondition(wanted, map[string]any{
			"type": wire.ConditionDelivered, "status": "False", "reason": c.reason, "message": c.message,
			"observedGeneration": t.generation, "lastTransitionTime": since,
		})
	}
	return "status", map[string]any{"status": map[string]any{"conditions": wanted["conditions"]}}, nil
}

func (*deliveredChange) wrote(*job, *target) bool { return false }

// deliveredOf is the hub's own condition in a status, or nil.
func deliveredOf(status map[string]any) map[string]any {
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		if fields, ok := c.(map[string]any); ok && fields["type"] == wire.ConditionDelivered {
			return fields
		}
	}
	return nil
}

func hasDelivered(object []byte) bool {
	stored, err := storedStatus(object)
	return err == nil && deliveredOf(stored) != nil
}

// withCondition is a copy of status with one condition more.
func withCondition(status, condition map[string]any) map[string]any {
	out := maps.Clone(status)
	if out == nil {
		out = map[string]any{}
	}
	conditions, _ := out["conditions"].([]any)
	out["conditions"] = append(slices.Clip(slices.Clone(conditions)), condition)
	return out
}

// withoutDelivered is a copy of status without the hub's own condition.
func withoutDelivered(status map[string]any) map[string]any {
	out := maps.Clone(status)
	conditions, ok := out["conditions"].([]any)
	if !ok {
		return out
	}
	kept := slices.DeleteFunc(slices.Clone(conditions), func(c any) bool {
		fields, ok := c.(map[string]any)
		return ok && fields["type"] == wire.ConditionDelivered
	})
	delete(out, "conditions")
	if len(kept) > 0 {
		out["conditions"] = kept
	}
	return out
}
