// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hubs

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/internal/identity"
)

const (
	defaultNamespace = identity.HubNamespace
	// caSecret has the CA of the hub's listeners.
	caSecret = "fairlead-ca-hub-serving" //nolint:gosec // the name of one
)

// findCA reads the CA of the admin listener from the file given, or from the
// hub's Kubernetes. Of the Secret there only the certificate is kept.
func findCA(ctx context.Context, o *cli.Options, namespace string) ([]byte, error) {
	if o.CAFile != "" {
		ca, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the hub's CA: %w", err)
		}
		return ca, nil
	}
	config, err := o.RESTConfig(cli.Context{})
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("using the kubeconfig: %w", err)
	}
	secret, err := client.CoreV1().Secrets(namespace).Get(ctx, caSecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the hub's CA from its Kubernetes: %w\nHint: ask the hub's admin for the CA certificate and give --hub-ca-file", err)
	}
	ca := secret.Data[corev1.TLSCertKey]
	if len(ca) == 0 {
		return nil, fmt.Errorf("the hub's CA: Secret %s/%s has no %s", namespace, caSecret, corev1.TLSCertKey)
	}
	return ca, nil
}
