// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// inventoryBudget bounds one reply; the rest of a frame is for framing.
const inventoryBudget = wire.MaxPart

// inventory answers a request: digests of all buckets, or the entries of those
// asked for, in as many messages as frames need. A bucket may go on in the next
// message.
func inventory(request *agentv1.InventoryRequest, entries []wire.Entry) []*agentv1.SessionRequest {
	if len(request.GetBuckets()) == 0 {
		return replies(request.GetStatuses(), [][]*agentv1.Bucket{digests(entries)})
	}
	wanted := map[uint32]bool{}
	for _, index := range request.GetBuckets() {
		wanted[index] = index < wire.Buckets
	}
	byBucket := map[uint32][]wire.Entry{}
	for _, entry := range entries {
		if index := uint32(entry.Key.Bucket()); wanted[index] {
			byBucket[index] = append(byBucket[index], entry)
		}
	}
	var messages [][]*agentv1.Bucket
	var message []*agentv1.Bucket
	left := inventoryBudget
	for index := range uint32(wire.Buckets) {
		if !wanted[index] {
			continue
		}
		bucket := &agentv1.Bucket{Index: index}
		message, left = append(message, bucket), left-8
		for _, entry := range byBucket[index] {
			e := wire.EntryProto(entry)
			size := proto.Size(e) + 8
			if size > left {
				messages = append(messages, message)
				bucket = &agentv1.Bucket{Index: index}
				message, left = []*agentv1.Bucket{bucket}, inventoryBudget
			}
			bucket.Entries = append(bucket.Entries, e)
			left -= size
		}
	}
	return replies(request.GetStatuses(), append(messages, message))
}

func digests(entries []wire.Entry) []*agentv1.Bucket {
	summary := wire.Summarize(entries)
	buckets := make([]*agentv1.Bucket, 0, wire.Buckets)
	for index := range summary {
		buckets = append(buckets, &agentv1.Bucket{Index: uint32(index), Digest: summary[index][:]})
	}
	return buckets
}

func replies(statuses bool, messages [][]*agentv1.Bucket) []*agentv1.SessionRequest {
	out := make([]*agentv1.SessionRequest, 0, len(messages))
	for i, buckets := range messages {
		out = append(out, &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{Inventory: &agentv1.InventoryReply{
			Statuses: statuses, Buckets: buckets, Last: i == len(messages)-1,
		}}})
	}
	return out
}
