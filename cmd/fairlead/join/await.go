// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

// lookEvery is how often the agent is looked at.
const lookEvery = 300 * time.Millisecond

// wait is a wait for an agent to be connected.
type wait struct {
	*spoke
	agent    agent
	progress *cli.Progress
	shown    string // the pairing code that was shown
}

// await shows the pairing code as soon as there is one, and ends when the agent
// is connected.
func (s *spoke) await(ctx context.Context, a agent) error {
	bounded, cancel := s.o.WaitForPerson(ctx)
	defer cancel()
	w := &wait{spoke: s, agent: a, progress: s.o.Progress()}
	var known state
	err := w.progress.While(func() (err error) {
		known, err = w.until(bounded)
		return err
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return cli.TimedOut(w.late(known))
	case err != nil && !errors.As(err, new(endedError)):
		return err // the agent goes on
	}
	if err := s.forgetJoin(ctx); err != nil {
		s.o.Notef("%v", err) // it is no good to anybody any more
	}
	if err != nil {
		s.o.Notef("Cluster %s is not joined. Namespace %s stays there, with nothing running: a join with another join string goes on from it.", s.name, namespace)
		return err
	}
	s.o.Sayf("cluster %s joined hub %s", s.name, known.hub)
	s.o.Nextf("on the hub: «fairlead create work NAME --clusters %s -f FILE» sends work; here: %s", s.name, a.hint())
	return nil
}

func (w *wait) until(ctx context.Context) (state, error) {
	for {
		known, err := w.agent.state(ctx)
		if err != nil || known.connected {
			return known, err
		}
		w.show(known)
		if err := cli.Pause(ctx, lookEvery); err != nil {
			return known, err
		}
	}
}

func (w *wait) show(known state) {
	switch {
	case known.joined():
		w.say(known, "the hub has let the cluster in; connecting")
	case known.code != "":
		w.code(known.code)
		w.say(known, "waiting for the hub's admin to accept")
	default:
		w.say(known, "asking the hub to let the cluster in")
	}
}

func (w *wait) say(known state, text string) {
	if known.trouble != "" {
		text += ": " + known.trouble
	}
	w.progress.Sayf("%s: %s", w.name, text)
}

// code shows the pairing code once, and what the hub's admin does with it.
func (w *wait) code(code string) {
	if w.shown == code {
		return
	}
	w.shown = code
	w.progress.Break()
	w.o.Sayf("pairing code %s", code)
	w.o.Nextf("the hub's admin accepts this very key: fairlead accept %s --pairing-code %s", w.name, code)
}

// late says what a wait that took too long was waiting for.
func (w *wait) late(known state) error {
	switch {
	case known.joined():
		return fmt.Errorf("the hub has let cluster %s in, but its agent is not connected: %s\nHint: %s", w.name, or(known.trouble, "no reason is known"), w.agent.hint())
	case known.code != "":
		return fmt.Errorf("nobody has accepted cluster %s yet\nHint: the agent goes on waiting; once the hub's admin says «fairlead accept %s --pairing-code %s», it connects by itself. The same join again goes on from here", w.name, w.name, known.code)
	}
	return fmt.Errorf("the hub has not answered cluster %s yet: %s\nHint: %s", w.name, or(known.trouble, "no reason is known"), w.agent.hint())
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
