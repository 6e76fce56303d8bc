// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// ConsentPeriod is how often the agent asks whether it still may be here.
	ConsentPeriod = 10 * time.Second
	// ConsentGrace is for how long the answer has to be no.
	ConsentGrace = time.Minute
	// strangerFactor is how many times longer it has to be that the spoke does not
	// know the agent at all: an apiserver that cannot reach who knows tokens says
	// so, too.
	strangerFactor = 5
)

// standing is what the spoke says of the agent's own rights.
type standing int

const (
	unclear  standing = iota // no answer
	granted                  // it may do its work
	revoked                  // the spoke's admin took its rights away
	stranger                 // its credentials are no good on the spoke
)

// consent ends the agent once the spoke's admin has taken its rights away, and
// tells the hub (T82). Only a clear and lasting no counts, and only from a spoke
// that said yes before: an apiserver that does not answer withdraws nothing.
type consent struct {
	*Agent
	creds *enroll.Credentials // nil where somebody else keeps the identity
	ask   func(ctx context.Context) standing

	had   bool
	last  standing
	since time.Time
}

// watch asks until ctx ends, or consent does.
func (c *consent) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		if over := c.look(ctx, time.Now()); over {
			return c.withdraw(ctx)
		}
		pause(ctx, c.cfg.ConsentPeriod)
	}
	return nil
}

// look asks once and tells whether consent is over.
func (c *consent) look(ctx context.Context, now time.Time) (over bool) {
	found := c.ask(ctx)
	c.had = c.had || found == granted
	if found == unclear || !c.had {
		return false
	}
	if found != c.last {
		c.last, c.since = found, now
		if found != granted {
			c.log.WarnContext(ctx, "the agent's own rights on this spoke are gone; if that lasts, it leaves the hub", "within", c.grace(found))
		}
	}
	return found != granted && now.Sub(c.since) >= c.grace(found)
}

func (c *consent) grace(of standing) time.Duration {
	if of == stranger {
		return strangerFactor * c.cfg.ConsentGrace
	}
	return c.cfg.ConsentGrace
}

// withdraw leaves the hub, forgets the credentials and says why. Where the spoke
// does not know the agent, that may be an expired token as well: nothing is given
// up that could not be had again.
func (c *consent) withdraw(ctx context.Context) error {
	if c.last == stranger {
		return fmt.Errorf("%s: this spoke no longer knows the agent (401 for %s): its ServiceAccount or its token is gone; join again, or remove the agent",
			reason.ConsentWithdrawn, c.grace(stranger))
	}
	const why = "the agent's rights on the spoke were taken away"
	if c.creds != nil {
		if err := c.creds.Detach(ctx, why, true); err != nil {
			c.log.ErrorContext(ctx, "the hub could not be told that this spoke leaves; it will say Unknown", "error", err)
		}
		if err := c.creds.Forget(ctx); err != nil {
			c.log.ErrorContext(ctx, "the agent's credentials could not be removed", "error", err)
		}
	}
	return fmt.Errorf("%s: %s: it has left the hub and stops; workloads stay", reason.ConsentWithdrawn, why)
}

// standing asks the spoke for two rights without which the agent is nothing.
func (a *Agent) standing(ctx context.Context) standing {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, right := range []authorizationv1.ResourceAttributes{
		{Verb: "patch", Group: "work.open-cluster-management.io", Resource: "appliedmanifestworks"},
		{Verb: "get", Resource: "namespaces", Name: metav1.NamespaceSystem},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &right}}
		answer, err := a.spoke.kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		switch {
		case apierrors.IsUnauthorized(err):
			return stranger
		case err != nil || answer.Status.EvaluationError != "":
			return unclear
		case answer.Status.Allowed:
			return granted
		}
	}
	return revoked
}
