// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	ocmfeature "open-cluster-management.io/api/feature"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/server/controller"
)

// errStarting is what readiness says before the hub knows who it is.
var errStarting = errors.New("the apiserver has not been reached yet, or the hub's identity is being made")

// bootRetry is how often an apiserver that does not answer is asked again.
const bootRetry = 2 * time.Second

// boot makes everything that has to be there before anybody can be served. An
// apiserver that does not answer is waited for.
func (s *Server) boot(ctx context.Context) (*house, error) {
	for {
		h, err := s.tryBoot(ctx)
		if err == nil {
			return h, h.wire()
		}
		if !unreachable(err) {
			return nil, err
		}
		s.log.Warn("waiting for the apiserver", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(bootRetry):
		}
	}
}

func (s *Server) tryBoot(ctx context.Context) (*house, error) {
	scheme := runtime.NewScheme()
	if err := controller.AddToScheme(scheme); err != nil {
		return nil, err
	}
	direct, err := client.New(s.rest, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client for the apiserver: %w", err)
	}
	h := &house{Server: s, scheme: scheme, direct: direct, agents: s.rest, epochs: map[string]bool{}}
	if err := h.install(ctx); err != nil {
		return nil, err
	}
	if h.hub, err = ca.EnsureHub(ctx, direct, s.cfg.Namespace, s.cfg.HubID); err != nil {
		return nil, err
	}
	if h.authorities, err = h.loadAuthorities(ctx); err != nil {
		return nil, err
	}
	if h.hooks, err = h.newHooks(ctx); err != nil {
		return nil, err
	}
	if h.cache, err = h.newCache(); err != nil {
		return nil, err
	}
	return h, h.watchEpoch(ctx)
}

// install makes namespace, identity for agents, RBAC and, if told to, CRDs.
func (h *house) install(ctx context.Context) (err error) {
	if h.cfg.InstallCRDs {
		crds := deploy.HubCRDs()
		if h.cfg.Gates.Enabled(ocmfeature.ClusterProfile) {
			crds = append(crds, deploy.ClusterProfileCRD())
		}
		if h.cfg.Gates.Enabled(feature.SIGPlacementDecision) {
			crds = append(crds, deploy.SIGPlacementDecisionCRD())
		}
		kept, err := kube.InstallCRDs(ctx, h.rest, crds)
		for _, crd := range kept {
			h.log.WarnContext(ctx, crd.String())
		}
		if err != nil {
			return fmt.Errorf("installing CRDs: %w", err)
		}
	}
	if h.cfg.AgentAuth == AuthCertificate {
		return kube.EnsureNamespace(ctx, h.direct, h.cfg.Namespace)
	}
	account := types.NamespacedName{Namespace: h.cfg.Namespace, Name: identity.GRPCServerServiceAccount}
	if h.agents, err = kube.EnsureIdentity(ctx, h.rest, h.direct, account, deploy.HubRBAC()); err != nil {
		return fmt.Errorf("making the identity that writes for agents (%s): %w", account, err)
	}
	return nil
}

func (h *house) loadAuthorities(ctx context.Context) (*ca.Authorities, error) {
	cfg := ca.Config{
		Client: h.direct, Namespace: h.cfg.Namespace, Hub: h.hub, ServingNames: h.cfg.servingNames(),
		CertificateLifetime: h.cfg.CertificateLifetime, MinCertificateLifetime: h.cfg.MinCertificateLifetime,
		FileRefresh: h.cfg.PKIRefresh, Clock: h.cfg.Clock, Log: h.log,
	}
	if h.cfg.ownPKI() {
		return ca.NewFromFiles(cfg, ca.Files{Certificate: h.cfg.TLSCert, Key: h.cfg.TLSKey, AgentClientCA: h.cfg.AgentClientCA})
	}
	return ca.New(ctx, cfg)
}

// unreachable tells errors that pass by themselves from those that do not.
func unreachable(err error) bool {
	var network *url.Error
	return errors.As(err, &network) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) ||
		apierrors.IsConflict(err)
}

// newReplica names this process: people recognise the host, and a restart is
// another replica.
func newReplica() string {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	host, err := os.Hostname()
	host = strings.ToLower(host)
	if err != nil || len(validation.IsDNS1123Label(host)) > 0 {
		host = "hub"
	}
	return host[:min(len(host), 50)] + "-" + hex.EncodeToString(id[:])
}
