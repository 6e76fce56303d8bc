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
	maxOrphans = 10_000
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
			c.violation("inventory bucket %d: there are %d", b.GetIndex(), wire.Buckets)
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
		c.violation("an inventory of more than %d entries", c.cfg.Hub.Limits.maxInventory())
		return false
	}
	for _, raw := range entries {
		e, ok := wire.EntryOf(raw)
		if len(e.Key.Name) > maxName || len(e.UID) > maxUID {
			c.violation("an inventory entry whose name or UID is too long")
			return false
		}
		if ok && x.differ[e.Key.Bucket()] {
			c.compare(now, e)
		}
	}
	return true
}

// compare takes one object that the agent holds.
func (c *Core) compare(now time.Time, theirs wire.Entry) {
	x := c.sync
	delete(x.want, theirs.Key)
	delete(x.marked, theirs.Key) // what is compared now is newer
	obj, ok := c.src.Get(theirs.Key)
	if !ok {
		c.compareOrphan(now, theirs)
		return
	}
	if obj.Same(theirs.Revision) {
		if e := c.entries[theirs.Key]; e != nil && e.dirty && e.flight.seq == 0 {
			c.cancelOrphan(e)
			c.quiet(e) // dirty for what the agent has already
		}
		return
	}
	if obj.Deleting && obj.UID != theirs.UID {
		c.compareDisplaced(now, theirs, obj)
		return
	}
	if c.settled(theirs.Key, obj) {
		return
	}
	if !newer(theirs.Revision, obj) {
		c.differs(now, theirs.Key)
		return
	}
	c.mismatch(theirs.Key)
	e := c.entryOf(theirs.Key)
	if theirs.UID != obj.UID {
		e.gone = theirs.UID
	}
	c.count(e)
	c.doubt(now, e)
}

// compareDisplaced takes an object that the agent holds and whose place on the
// hub is taken by one that is being deleted: that one's delete does not remove
// it, so it is an orphan, if the quorum agrees.
func (c *Core) compareDisplaced(now time.Time, theirs wire.Entry, obj Object) {
	e := c.entries[theirs.Key]
	if c.finalizing(theirs.Key, obj.UID) != nil || e != nil && (e.knownOrphan(theirs.UID) || e.finishedFor(obj.UID) || e.orphan != nil) {
		return
	}
	if !c.settled(theirs.Key, obj) {
		c.mismatch(theirs.Key)
	}
	e = c.entryOf(theirs.Key)
	e.gone = theirs.UID
	c.count(e)
	if e.flight.seq == 0 {
		c.doubt(now, e)
		return
	}
	// The other's delete was sent; it changes nothing there.
	c.abandon(e)
	e.unlink()
	e.dirty, e.wait = true, waitFlight
}

// newer tells whether the agent may hold something newer than the index: then
// the index may lag.
func newer(theirs wire.Revision, obj Object) bool {
	if theirs.UID != obj.UID {
		return true
	}
	return theirs.Generation > obj.Generation || !obj.Deleting && theirs.Digest == wire.DeletingDigest(theirs.UID)
}

// settled tells whether a difference is known: something is on its way, or was
// acknowledged since the inventory was taken, or a verdict explains it.
func (c *Core) settled(key wire.Key, obj Object) bool {
	if digest, ok := c.sync.stored[key]; ok && digest == obj.Digest {
		return true
	}
	if obj.Deleting && c.finalizing(key, obj.UID) != nil {
		return true
	}
	e := c.entries[key]
	if e == nil {
		return false
	}
	if e.dirty || e.flight.seq != 0 {
		return true
	}
	known := c.explained(e, obj)
	c.settle(e)
	return known
}

// differs makes a key dirty that the agent has not as the index has it.
func (c *Core) differs(now time.Time, key wire.Key) {
	obj, ok := c.src.Get(key)
	if !ok {
		return // gone meanwhile: its mark says so
	}
	known := c.entries[key] != nil && c.entries[key].displacedBy(obj)
	if known {
		c.forget(c.entries[key]) // the agent has removed the orphan: now it has room
	}
	if c.settled(key, obj) {
		return
	}
	if !known {
		c.mismatch(key)
	}
	e := c.entryOf(key)
	e.gone = ""
	c.count(e)
	c.touch(now, e, obj)
}

// compareOrphan takes an object that the agent holds and the index has not.
func (c *Core) compareOrphan(now time.Time, theirs wire.Entry) {
	if theirs.UID == "" || c.finalizing(theirs.Key, theirs.UID) != nil || len(c.sync.orphans.members) >= maxOrphans {
		return
	}
	e := c.entries[theirs.Key]
	if e != nil {
		known := e.verdict != nil && e.verdict.kind != undeliverable && e.verdict.rev.UID == theirs.UID
		if known || e.dirty || e.flight.seq != 0 {
			return
		}
	} else {
		c.mismatch(theirs.Key)
	}
	e = c.entryOf(theirs.Key)
	e.verdict = nil
	c.count(e)
	c.suspect(now, e, theirs.Revision, c.sync.orphans)
}

func (c *Core) mismatch(key wire.Key) {
	if x := c.sync; !x.welcome && len(x.mismatches) < maxMismatches {
		x.mismatches = append(x.mismatches, key)
	}
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

// heartbeat compares roots when the agent sent its own (anti-entropy). While
// something is on its way they cannot be equal, and a session in doubt is not
// asked twice in short order.
func (c *Core) heartbeat(now time.Time, h *agentv1.Heartbeat) {
	resume := h.GetResume()
	if resume == nil || !c.idle() {
		return
	}
	if modeOf(resume, c.src.Summary()) == agentv1.SyncMode_SYNC_MODE_IN_SYNC {
		c.lastSync = now
		c.forgetVerdicts()
		return
	}
	if now.Sub(c.lastSync) >= c.cfg.AntiEntropy/4 {
		c.antiEntropy(now)
	}
}

// forgetVerdicts drops what explained differences: there are none.
func (c *Core) forgetVerdicts() {
	for _, e := range c.entries {
		e.verdict = nil
		c.settle(e)
	}
}

func (c *Core) antiEntropy(now time.Time) {
	c.lastSync = now
	c.sync = c.newExchange(now, false)
	c.askDigests()
}

// idle tells whether nothing is on its way to the agent.
func (c *Core) idle() bool {
	if c.sync != nil || c.announce {
		return false
	}
	for _, e := range c.entries {
		if e.dirty || e.flight.seq != 0 {
			return false
		}
	}
	return true
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
