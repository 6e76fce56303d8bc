// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/test/scale/fleet"
)

// Accept makes an accepted ManagedCluster for each cluster, and waits until a
// running hub has made namespace and RBAC of all.
func (w *World) Accept(ctx context.Context) error {
	err := w.each(ctx, func(ctx context.Context, _ int, cluster string) error {
		return w.client.Create(ctx, &clusterv1.ManagedCluster{
			ObjectMeta: metav1.ObjectMeta{Name: cluster}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true},
		})
	})
	if err != nil {
		return err
	}
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		ready, err := w.accepted(ctx)
		if err != nil || ready == len(w.Clusters) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the hub has set up %d of %d clusters: %w", ready, len(w.Clusters), ctx.Err())
		case <-ticker.C:
		}
	}
}

// accepted counts clusters whose hub-side identity may write for their agents.
func (w *World) accepted(ctx context.Context) (int, error) {
	list := &rbacv1.RoleBindingList{}
	if err := w.client.List(ctx, list); err != nil {
		return 0, err
	}
	ready := 0
	for i := range list.Items {
		if list.Items[i].Name == "open-cluster-management:managedcluster:"+list.Items[i].Namespace+":grpc-server" {
			ready++
		}
	}
	return ready, nil
}

// Enroll gives every cluster an active enrollment and its agent a certificate of
// the hub's own CA, which leaves the hub where the real exchange would, without
// taking that long. No hub may run meanwhile.
func (w *World) Enroll(ctx context.Context) (fleet.Setup, error) {
	hub, err := ca.EnsureHub(ctx, w.client, identity.HubNamespace, "")
	if err != nil {
		return fleet.Setup{}, err
	}
	authorities, err := ca.New(ctx, ca.Config{
		Client: w.client, Namespace: identity.HubNamespace, Hub: hub, ServingNames: []string{"127.0.0.1"}, Clock: clock.RealClock{}, Log: w.log,
	})
	if err != nil {
		return fleet.Setup{}, err
	}
	version, roots := authorities.TrustBundle()
	setup := fleet.Setup{HubID: hub.ID, Roots: pki.EncodeCertificates(roots...), TrustVersion: version}
	setup.Agents = make([]fleet.Identity, len(w.Clusters))
	uids, err := w.uids(ctx)
	if err != nil {
		return fleet.Setup{}, err
	}
	var mu sync.Mutex
	err = w.each(ctx, func(ctx context.Context, i int, cluster string) error {
		id := identity.Agent{Cluster: cluster, Name: "agent", HubID: hub.ID, UID: uids[cluster]}
		issued, err := w.enroll(ctx, authorities.Signer(), id)
		mu.Lock()
		defer mu.Unlock()
		setup.Agents[i] = issued
		return err
	})
	return setup, err
}

func (w *World) uids(ctx context.Context) (map[string]string, error) {
	list := &clusterv1.ManagedClusterList{}
	if err := w.client.List(ctx, list); err != nil {
		return nil, err
	}
	uids := map[string]string{}
	for i := range list.Items {
		uids[list.Items[i].Name] = string(list.Items[i].UID)
	}
	return uids, nil
}

func (w *World) enroll(ctx context.Context, signer *ca.Signer, id identity.Agent) (fleet.Identity, error) {
	out := fleet.Identity{Cluster: id.Cluster}
	key, err := pki.NewKey()
	if err != nil {
		return out, err
	}
	if out.Key, err = pki.EncodeKey(key); err != nil {
		return out, err
	}
	der, err := pki.NewCSR(key, identity.Subject(id.Cluster, id.Name))
	if err != nil {
		return out, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return out, err
	}
	issued, err := signer.Sign(csr, id, time.Now(), 0)
	if err != nil {
		return out, err
	}
	out.Certificate = issued.ChainPEM
	return out, w.record(ctx, id, csr.RawSubjectPublicKeyInfo, issued)
}

// record writes the ClusterEnrollment as it is once its certificate was used.
func (w *World) record(ctx context.Context, id identity.Agent, spki []byte, issued ca.Issued) error {
	code := identity.PairingCode(spki, id.Cluster, id.HubID)
	name := identity.EnrollmentName(id.Cluster, code)
	e := &v1alpha1.ClusterEnrollment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{identity.ClusterNameLabel: id.Cluster}},
		Spec: v1alpha1.ClusterEnrollmentSpec{
			ClusterName: id.Cluster, HubID: id.HubID, ManagedClusterUID: id.UID, AgentName: id.Name, PairingCode: code, CSRName: name,
			ClusterFingerprint: "fingerprint-" + id.Cluster, AgentID: "agent-" + id.Cluster,
		},
	}
	e.Spec.SetPublicKey(spki)
	if err := w.client.Create(ctx, e); err != nil {
		return err
	}
	before := e.DeepCopy()
	now := metav1.Now()
	e.SetState(v1alpha1.StateActive, "CertificateUsed", "the agent has connected with its certificate", now)
	notAfter := metav1.NewTime(issued.NotAfter)
	e.Status.AcceptedBy = "scale"
	e.Status.Current = &v1alpha1.Certificate{
		KeySHA256: e.Spec.KeySHA256, CSRName: name, Serial: issued.Serial, NotAfter: &notAfter, Chain: issued.ChainPEM,
	}
	e.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "accepted by scale", LastTransitionTime: now,
	}}
	return w.client.Status().Patch(ctx, e, client.MergeFrom(before))
}
