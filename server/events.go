// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// eventSource is whom Events of the replicas come from.
	eventSource = "fairlead-hub"
	// maxNote is the longest note that the apiserver takes.
	maxNote = 1024
	// eventTimeout bounds writing one.
	eventTimeout = 5 * time.Second
)

// event makes an Event on a ManagedCluster, of what a person or an agent did on
// this replica. What it tells has happened: one that cannot be written is only
// logged, and one whose caller has gone is written all the same. Events of objects
// without a namespace are kept in default.
func (h *house) event(ctx context.Context, cluster, reason, action, note string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTimeout)
	defer cancel()
	regarding := corev1.ObjectReference{APIVersion: clusterv1.GroupVersion.String(), Kind: "ManagedCluster", Name: cluster}
	object := &clusterv1.ManagedCluster{}
	if err := h.cache.Get(ctx, client.ObjectKey{Name: cluster}, object); err == nil {
		regarding.UID = object.UID
	}
	now := time.Now()
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: fmt.Sprintf("%s.%x", cluster, now.UnixNano())},
		EventTime:  metav1.NewMicroTime(now), ReportingController: eventSource, ReportingInstance: h.cfg.Replica,
		Action: action, Reason: reason, Regarding: regarding, Note: strings.ToValidUTF8(note[:min(len(note), maxNote)], ""), Type: corev1.EventTypeNormal,
	}
	if err := h.direct.Create(ctx, event); err != nil {
		h.log.Warn("an Event could not be written", "cluster", cluster, "reason", reason, "error", err)
	}
}
