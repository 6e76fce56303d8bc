// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"slices"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// inventoryPatience is how long an inventory may stand still.
	inventoryPatience = 2 * time.Minute
	// maxOrphans bounds the orphans of one sync; the next finds the rest.
	// maxSuspects bounds what an agent can make its session remember.
	maxOrphans  = 10_000
	maxSuspects = 20_000
	// maxMismatches bounds the keys named by CountMismatch.
	maxMismatches = 16
)

// exchange is one comparison with what the agent holds: bucket digests first,
// unless all entries are asked for at once, then the entries of the buckets
// that differ.
type exchange struct {
	welcome bool // the one that Welcome announced; else anti-entropy
	digests *wire.BucketDigests
	differ  [wire.Buckets]bool
	entries bool                       // entries are asked for
	want    map[wire.Key]wire.Revision // what the index had then and the agent did not name yet
	named   int
	// stored is what the agent acknowledged meanwhile; its inventory may be
	// older than that.
	stored     map[wire.Key]wire.Digest
	orphans    *batch
	mismatches []wire.Key
	// empty: the agent says that it holds nothing.
	empty bool
	// marked is what changed while it is not known what the agent holds of it.
	marked   map[wire.Key]string
	deadline time.Time
}

func (c *Core) newExchange(now time.Time, welcome bool) *exchange {
	return &exchange{welcome: welcome, orphans: &batch{open: true}, deadline: now.Add(inventoryPatience)}
}

func (c *Core) askDigests() { c.askInventory(nil) }

// askEntries asks for the entries of some buckets, and notes what the index has
// in them now. What changes later is marked.
func (c *Core) askEntries(buckets []uint32) {
	x := c.sync
	x.entries, x.digests = true, nil
	x.differ = [wire.Buckets]bool{}
	for _, b := range buckets {
		x.differ[b] = true
	}
	x.want = make(map[wire.Key]wire.Revision)
	for _, e := range c.src.Entries() {
		if x.differ[e.Key.Bucket()] {
			x.want[e.Key] = e.Revision
		}
	}
	c.askInventory(buckets)
}

func (c *Core) askInventory(buckets []uint32) {
	c.say(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_InventoryRequest{
		InventoryRequest: &agentv1.InventoryRequest{Buckets: buckets},
	}})
}

func allBuckets() []uint32 {
	all := make([]uint32, wire.Buckets)
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

// sendAll makes everything dirty without waiting for an inventory.
func (c *Core) sendAll(now time.Time) {
	for _, key := range sortedKeys(c.sync.want) {
		c.differs(now, key)
	}
	c.sync.want, c.sync.empty = nil, true
}

// postpone keeps a mark for later while Welcome's comparison runs and the agent
// may hold something of that key: then it is best known first what that is.
func (x *exchange) postpone(m Marked) bool {
	if !x.welcome || x.empty || x.entries && !x.differ[m.Key.Bucket()] {
		return false
	}
	if x.marked == nil {
		x.marked = make(map[wire.Key]string)
	}
	if x.marked[m.Key] == "" {
		x.marked[m.Key] = m.UID
	}
	return true
}

// inventory takes one frame of the agent's answer.
func (c *Core) inventory(now time.Time, reply *agentv1.InventoryReply) {
	x := c.sync
	if x == nil || reply.GetStatuses() {
		return // not asked for
	}
	x.deadline = now.Add(inventoryPatience)
	for _, b := range reply.GetBuckets() {
		if b.GetIndex() >= wire.Buckets {
			c.violationf("inventory bucket %d: there are %d", b.GetIndex(), wire.Buckets)
			return
		}
		if x.entries {
			if !c.takeEntries(now, b.GetEntries()) {
				return
			}
			continue
		}
		c.takeDigest(b)
	}
	if !reply.GetLast() {
		return
	}
	if x.entries {
		c.endEntries(now)
		return
	}
	c.endDigests(now)
}

func (c *Core) takeDigest(b *agentv1.Bucket) {
	x := c.sync
	c.compareDigests()
	theirs, ok := wire.DigestOf(b.GetDigest())
	if len(b.GetDigest()) == 0 {
		ok = true
	}
	x.differ[b.GetIndex()] = !ok || theirs != x.digests[b.GetIndex()]
}

// compareDigests computes the index's digests at the first frame of the answer;
// buckets that the agent does not name are empty there.
func (c *Core) compareDigests() {
	x := c.sync
	if x.digests != nil {
		return
	}
	x.digests = wire.Summarize(c.src.Entries())
	x.marked = nil // compared from here on
	for i, d := range x.digests {
		x.differ[i] = !d.IsZero()
	}
}

func (c *Core) endDigests(now time.Time) {
	c.compareDigests()
	var buckets []uint32
	for i, differs := range c.sync.differ {
		if differs {
			buckets = append(buckets, uint32(i))
		}
	}
	if len(buckets) == 0 {
		c.endSync(now)
		return
	}
	c.askEntries(buckets)
}

// takeEntries compares some entries; false when the session is closed for them.
func (c *Core) takeEntries(now time.Time, entries []*agentv1.InventoryEntry) bool {
	x := c.sync
	if x.named += len(entries); x.named > c.cfg.Hub.Limits.maxInventory() {
		c.violationf("an inventory of more than %d entries", c.cfg.Hub.Limits.maxInventory())
		return false
	}
	for _, raw := range entries {
		e, ok := wire.EntryOf(raw)
		if len(e.Key.Name) > maxName || len(e.UID) > maxUID {
			c.violationf("an inventory entry whose name or UID is too long")
			return false
		}
		if ok && x.differ[e.Key.Bucket()] {
			c.compare(now, e)
		}
	}
	return true
}

// endEntries makes dirty what the agent did not name.
func (c *Core) endEntries(now time.Time) {
	for _, key := range sortedKeys(c.sync.want) {
		delete(c.sync.marked, key)
		c.differs(now, key)
	}
	c.endSync(now)
}

func (c *Core) endSync(now time.Time) {
	x := c.sync
	c.sync, c.lastSync = nil, now
	x.orphans.open = false
	for _, key := range sortedKeys(x.marked) {
		c.mark(now, Marked{Key: key, UID: x.marked[key]})
	}
	c.sealBatches()
	if len(x.mismatches) > 0 {
		c.effect(CountMismatch{Keys: x.mismatches})
	}
}

// noteStored remembers an acknowledgement while an inventory is under way.
func (c *Core) noteStored(key wire.Key, f flight) {
	if c.sync == nil {
		return
	}
	if c.sync.stored == nil {
		c.sync.stored = make(map[wire.Key]wire.Digest)
	}
	c.sync.stored[key] = f.rev.Digest
}

func (c *Core) inventoryLate() {
	c.close(reason.SlowConsumer, "the agent did not answer an inventory request in "+inventoryPatience.String(), 0)
}

func sortedKeys[V any](m map[wire.Key]V) []wire.Key {
	keys := make([]wire.Key, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func compareKeys(a, b wire.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}
