// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
)

// refuse has the apiserver answer that to the next writes of the desk, or to all
// until remove is called.
func (d *desk) refuse(status, times int) (remove func()) {
	return d.proxy.Inject(env.Fault{Match: env.Match{Verbs: env.Writes(), Namespace: d.cluster}, Status: status, Times: times})
}

func (d *desk) refused() int {
	return d.proxy.Refused(env.Match{Verbs: env.Writes(), Namespace: d.cluster})
}

// resting is how many jobs of the desk are to be tried again.
func (d *desk) resting() int {
	d.w.queue.mu.Lock()
	defer d.w.queue.mu.Unlock()
	l, ok := d.w.queue.lines[d.cluster]
	if !ok {
		return 0
	}
	return len(l.resting)
}

// What an apiserver does not take now is shown all the same, without anybody
// asking again: the hub's rights in a new cluster's namespace may come later than
// its first work.
func TestDelivered_is_tried_again(t *testing.T) {
	t.Parallel()
	for status, times := range map[int]int{http.StatusForbidden: 2, http.StatusConflict: writeTries + 1, http.StatusInternalServerError: 1} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			w, _ := d.work("web")
			d.refuse(status, times)
			d.w.SetUndelivered(d.grant, key("web"), w.UID, reason.ObjectTooLarge, "it has too many bytes")
			eventually(t, "the condition", func() bool { return d.refused() == times && len(d.conditionTypes("web")) == 1 })
			require.Zero(t, d.resting())
			reaches(t, d.index, d.get("web"))

			d.proxy.ResetCounts()
			d.refuse(status, times)
			d.w.ClearUndelivered(d.grant, key("web"), w.UID)
			eventually(t, "no condition", func() bool { return d.refused() == times && len(d.conditionTypes("web")) == 0 })
		})
	}
}

func TestDelivered_is_not_tried_again_for_nothing(t *testing.T) {
	t.Parallel()
	fails := func(d *desk, uid string) {
		d.w.SetUndelivered(d.grant, key("web"), uid, reason.ObjectTooLarge, "it has too many bytes")
		eventually(d.t, "it is refused, and rests", func() bool { return d.refused() > 0 && d.resting() == 1 })
	}
	t.Run("delivered", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		w, _ := d.work("web")
		d.refuse(http.StatusForbidden, 1)
		fails(d, w.UID)
		d.w.ClearUndelivered(d.grant, key("web"), w.UID)
		eventually(t, "all is settled", func() bool { s := d.w.Stats(); return s.Waiting+s.Writing+d.resting() == 0 })
		require.Equal(t, 1, d.refused())
		require.Zero(t, d.writes(), "neither set nor cleared")
		require.Equal(t, "null", d.status("web"))
	})
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		w, _ := d.work("web")
		defer d.refuse(http.StatusForbidden, 0)()
		fails(d, w.UID)
		d.delete("web")
		eventually(t, "nothing is tried", func() bool { s := d.w.Stats(); return s.Waiting+s.Writing+d.resting() == 0 })
		require.Zero(t, d.writes())
	})
	t.Run("session_ends", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		w, _ := d.work("web")
		defer d.refuse(http.StatusForbidden, 0)()
		fails(d, w.UID)
		d.fence.dropped.Store(true)
		eventually(t, "nothing is tried", func() bool { s := d.w.Stats(); return s.Waiting+s.Writing+d.resting() == 0 })
		require.Zero(t, d.writes())
	})
	t.Run("newest_wins", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		w, _ := d.work("web")
		remove := d.refuse(http.StatusForbidden, 0)
		fails(d, w.UID)
		for range 100 {
			d.w.SetUndelivered(d.grant, key("web"), w.UID, "REJECTED", "no")
		}
		eventually(t, "one rests", func() bool { s := d.w.Stats(); return s.Waiting+s.Writing == 0 && d.resting() == 1 })
		remove()
		eventually(t, "the condition", func() bool { return len(d.conditionTypes("web")) == 1 })
		require.Contains(t, d.status("web"), "REJECTED")
		require.Equal(t, 1, d.writes())
	})
}
