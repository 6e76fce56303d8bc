// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairlead.dev/fairlead/agent/cluster"
	"fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/kube"
)

const (
	// apiTimeout bounds single calls of the agent's own to the spoke's apiserver.
	apiTimeout = 30 * time.Second
	// spokeRetry is how long the agent waits for a spoke that does not answer.
	spokeRetry = 2 * time.Second
)

// spoke is the way to the spoke's apiserver.
type spoke struct {
	// works is what works are applied with; the agent's own calls do not use up
	// its rate.
	works   *rest.Config
	kube    kubernetes.Interface
	dynamic dynamic.Interface
}

func newSpoke(cfg *Config) (*spoke, error) {
	base := cfg.REST
	if base == nil {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = cfg.Kubeconfig
		loaded, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("the spoke's kubeconfig: %w; set --spoke-kubeconfig", err)
		}
		base = loaded
	}
	s := &spoke{works: rest.CopyConfig(base)}
	s.works.QPS, s.works.Burst, s.works.RateLimiter = cfg.QPS, cfg.Burst, nil
	own := rest.CopyConfig(base)
	own.QPS, own.RateLimiter = -1, nil
	own.UserAgent = "fairlead-agent"
	var errKube, errDynamic error
	s.kube, errKube = kubernetes.NewForConfig(own)
	s.dynamic, errDynamic = dynamic.NewForConfig(own)
	return s, errors.Join(errKube, errDynamic)
}

// fingerprint waits until the spoke answers.
func (a *Agent) fingerprint(ctx context.Context) (string, error) {
	for {
		fingerprint, err := cluster.Fingerprint(ctx, a.spoke.kube)
		if err == nil || ctx.Err() != nil {
			return fingerprint, ctx.Err()
		}
		a.log.Warn("the spoke's apiserver cannot be used yet", "error", err, "retryIn", spokeRetry)
		pause(ctx, spokeRetry)
	}
}

// installCRDs installs what the agent needs on the spoke. Where it may not, the
// CRDs have to be there already; works say so if they are not.
func (a *Agent) installCRDs(ctx context.Context) error {
	for a.cfg.InstallCRDs {
		kept, err := kube.InstallCRDs(ctx, a.spoke.works, deploy.SpokeCRDs())
		for _, crd := range kept {
			a.log.Warn(crd.String())
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case apierrors.IsForbidden(err):
			a.log.Info("the agent may not install its CRDs; they have to be on the spoke already", "error", err)
			return nil
		}
		a.log.Warn("the agent's CRDs cannot be installed yet", "error", err, "retryIn", spokeRetry)
		pause(ctx, spokeRetry)
	}
	return nil
}

// backends are where store and credentials are kept.
func (a *Agent) backends(ctx context.Context) (store.Backend, enroll.Vault, error) {
	if a.cfg.storeKind() == StoreFiles {
		files, errFiles := store.NewFiles(filepath.Join(a.cfg.DataDir, "store"))
		vault, errVault := enroll.NewFileVault(a.cfg.DataDir)
		return files, vault, errors.Join(errFiles, errVault)
	}
	if err := a.ensureNamespace(ctx); err != nil {
		return nil, nil, err
	}
	secrets := a.spoke.kube.CoreV1().Secrets(a.cfg.Namespace)
	return store.NewSecrets(secrets), enroll.NewSecretVault(secrets, enroll.DefaultSecret), nil
}

// ensureNamespace makes the agent's namespace, for an agent that runs outside
// of its spoke. One that may not make it finds it there.
func (a *Agent) ensureNamespace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Namespace}}
	_, err := a.spoke.kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsForbidden(err) {
		return nil
	}
	return fmt.Errorf("making namespace %q on the spoke: %w", a.cfg.Namespace, err)
}
