// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

const (
	tokenSecret = "fairlead-agent-token"
	// tokenWait is how long the cluster may take to make a token in a Secret.
	tokenWait = 5 * time.Second
	// tokenLife is asked for where it does not.
	tokenLife = 365 * 24 * time.Hour
)

// prepare makes, for an agent outside the cluster, a folder and a kubeconfig
// with the rights of the agent's ServiceAccount: with the admin's own, the roles
// chosen here would mean nothing.
func (s *spoke) prepare(ctx context.Context) error {
	if s.mode == modeDeployment {
		return nil
	}
	if err := s.folder(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dataDir, 0o700); err != nil {
		return fmt.Errorf("making the agent's folder: %w", err)
	}
	if err := s.keepProxyCA(); err != nil {
		return err
	}
	token, err := s.agentToken(ctx)
	if err != nil {
		return err
	}
	return s.writeKubeconfig(token)
}

// folder settles where an agent outside the cluster keeps its files.
func (s *spoke) folder() error {
	if s.dataDir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return fmt.Errorf("finding a folder for the agent: %w (give --data-dir)", err)
		}
		s.dataDir = filepath.Join(base, "fairlead", "agents", s.name)
	}
	dir, err := filepath.Abs(s.dataDir)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	s.dataDir = dir
	return nil
}

func (s *spoke) kubeconfigFile() string { return filepath.Join(s.dataDir, "spoke.kubeconfig") }

// agentToken is a token that lives as long as the ServiceAccount, or, where the
// cluster makes none, one that is asked for.
func (s *spoke) agentToken(ctx context.Context) (string, error) {
	err := s.applyTyped(ctx, &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: tokenSecret, Namespace: namespace, Annotations: map[string]string{corev1.ServiceAccountNameKey: account}},
		Type:       corev1.SecretTypeServiceAccountToken,
	})
	if err != nil {
		return "", err
	}
	for deadline := time.Now().Add(tokenWait); time.Now().Before(deadline); {
		secret, err := s.kube.CoreV1().Secrets(namespace).Get(ctx, tokenSecret, metav1.GetOptions{})
		if err != nil {
			return "", fmt.Errorf("reading the agent's token: %w", err)
		}
		if token := secret.Data[corev1.ServiceAccountTokenKey]; len(token) > 0 {
			return string(token), nil
		}
		if err := cli.Pause(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
	seconds := int64(tokenLife / time.Second)
	answer, err := s.kube.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("getting a token for the agent: %w", err)
	}
	s.o.Notef("The cluster makes no lasting tokens for ServiceAccounts: the agent's ends %s, and the same join again renews it.", answer.Status.ExpirationTimestamp.Format(time.RFC1123))
	return answer.Status.Token, nil
}

// writeKubeconfig takes the way to the cluster from the admin's kubeconfig, and
// nothing of who the admin is.
func (s *spoke) writeKubeconfig(token string) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.kubeconfig
	raw, err := rules.Load()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig of the cluster that joins: %w", err)
	}
	config := raw.DeepCopy()
	if s.kubeContext != "" {
		config.CurrentContext = s.kubeContext
	}
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return fmt.Errorf("the kubeconfig of the cluster that joins: %w", err)
	}
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return fmt.Errorf("the kubeconfig of the cluster that joins: %w", err)
	}
	current := config.Contexts[config.CurrentContext]
	current.AuthInfo, current.Namespace = account, namespace
	config.AuthInfos[account] = &clientcmdapi.AuthInfo{Token: token}
	if err := clientcmd.WriteToFile(*config, s.kubeconfigFile()); err != nil {
		return fmt.Errorf("writing the agent's kubeconfig: %w", err)
	}
	return nil
}

// flags are those of the agent's program, without the join string.
func (s *spoke) flags() []string {
	flags := []string{
		"run", "--cluster-name=" + s.name, "--spoke-kubeconfig=" + s.kubeconfigFile(), "--store=files", "--data-dir=" + s.dataDir,
	}
	if s.proxyCA != "" {
		flags = append(flags, "--proxy-ca-file="+s.proxyCAFile())
	}
	return flags
}

// commandLine is how to run the agent by hand.
func (s *spoke) commandLine() string {
	words := append([]string{"agent"}, s.flags()...)
	words = append(words, "--join="+strings.Join(strings.Fields(s.text), ""))
	if s.proxyURL != "" {
		words = append(words, "--proxy-url="+s.proxyURL)
	}
	for i, word := range words {
		if strings.ContainsAny(word, " \t'\"$\\") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
