// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// take takes up n works, one after the other.
func take(t *testing.T, c *Controller, n int) []string {
	t.Helper()
	var names []string
	for range n {
		name, shutdown := c.queue.Get()
		require.False(t, shutdown)
		names = append(names, name)
		c.queue.Done(name)
	}
	return names
}

// queueing is a controller of which only the queue is used.
func queueing(t *testing.T) *Controller {
	t.Helper()
	c := &Controller{memories: map[string]*memory{}}
	c.queue, c.order = newQueue()
	t.Cleanup(c.queue.ShutDown)
	return c
}

// A work whose object changed on the spoke goes before a thousand that were delivered, whether it waits already or not.
func TestDriftGoesBeforeDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := queueing(t)
		for i := range 1000 {
			c.Enqueue(fmt.Sprintf("delivered-%d", i))
		}
		c.changed("drifted")
		c.changed("delivered-990")
		require.Equal(t, []string{"delivered-0"}, take(t, c, 1), "changes are gathered first")
		time.Sleep(debounce) // of the bubble's clock
		synctest.Wait()
		require.ElementsMatch(t, []string{"drifted", "delivered-990"}, take(t, c, 2))
		require.Equal(t, []string{"delivered-1", "delivered-2"}, take(t, c, 2), "in the order in which they came")
		require.Equal(t, 996, c.queue.Len(), "none is there twice")
		c.Enqueue("drifted")
		require.Equal(t, []string{"delivered-3"}, take(t, c, 1), "it is urgent once")
	})
}

// Objects that never rest do not hold up what was delivered.
func TestDriftLeavesRoomForDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := queueing(t)
		for i := range 20 {
			c.changed(fmt.Sprintf("drifted-%d", i))
		}
		time.Sleep(debounce) // of the bubble's clock
		synctest.Wait()
		c.Enqueue("delivered-0")
		c.Enqueue("delivered-1")
		taken := take(t, c, 22)
		require.Equal(t, "delivered-0", taken[urgentInARow])
		require.Equal(t, "delivered-1", taken[2*urgentInARow+1])
	})
}

// What changes during its pass is urgent when the pass ends, and in one pass at a time.
func TestDriftDuringAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := queueing(t)
		c.Enqueue("work")
		name, _ := c.queue.Get()
		c.Enqueue("other")
		c.changed("work")
		time.Sleep(debounce) // of the bubble's clock
		synctest.Wait()
		require.Equal(t, 1, c.queue.Len(), "it does not wait while it is in a pass")
		c.queue.Done(name)
		require.Equal(t, []string{"work", "other"}, take(t, c, 2))
	})
}
