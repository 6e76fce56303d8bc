// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/identity"
)

// HubConfig says how to run a hub.
type HubConfig struct {
	Binaries Binaries
	Dir      string // for logs, kubeconfigs and the CLI's file
	Name     string // default "hub"
	// Kubeconfig is the hub's start identity; REST is an admin of the same
	// apiserver, used to read the hub's CA.
	Kubeconfig string
	REST       *rest.Config
	Flags      []string // added last, so they win
	// Endpoints are where agents are told to find the hub, as a proxy before its
	// agent listener; default that listener.
	Endpoints []string
	// Environment is added to that of this process.
	Environment []string
}

// Hub is a running hub. Its addresses stay the same over restarts.
type Hub struct {
	*Process
	AgentAddress, AdminAddress, HTTPAddress string

	config HubConfig
}

// StartHub runs «hub serve» and returns once it is ready.
func StartHub(ctx context.Context, config HubConfig) (*Hub, error) {
	if config.Name == "" {
		config.Name = "hub"
	}
	h := &Hub{config: config}
	for _, address := range []*string{&h.AgentAddress, &h.AdminAddress, &h.HTTPAddress} {
		free, err := FreeAddress()
		if err != nil {
			return nil, err
		}
		*address = free
	}
	if err := h.Launch(); err != nil {
		return nil, err
	}
	return h, h.Ready(ctx)
}

// Launch starts the process, again after Kill or Stop, without waiting.
func (h *Hub) Launch() error {
	endpoints := h.config.Endpoints
	if len(endpoints) == 0 {
		endpoints = []string{h.AgentAddress}
	}
	args := append([]string{
		"serve", "--kubeconfig=" + h.config.Kubeconfig, "--install-crds",
		"--agent-listen=" + h.AgentAddress, "--admin-listen=" + h.AdminAddress, "--http-listen=" + h.HTTPAddress, "--endpoints=" + strings.Join(endpoints, ","),
	}, h.config.Flags...)
	p, err := start(h.config.Dir, h.config.Name, h.config.Binaries.Hub, args, h.config.Environment...)
	h.Process = p
	return err
}

// Ready waits until the hub says that it is.
func (h *Hub) Ready(ctx context.Context) error {
	return Until(ctx, h.config.Name+" to be ready", func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.HTTPAddress+"/readyz?verbose", http.NoBody)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		text, err := io.ReadAll(response.Body)
		if closed := response.Body.Close(); err == nil {
			err = closed
		}
		if response.StatusCode != http.StatusOK {
			return false, fmt.Errorf("readyz: %s: %s", response.Status, text)
		}
		return err == nil, err
	}, h.Process)
}

// Metric is the sum of a metric over those of its series that have all labels,
// each of the form name="value". One that does not exist yet is 0.
func (h *Hub) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	return metric(ctx, h.HTTPAddress, name, labels)
}

// CA writes the CA of the hub's listeners to a file and returns its path. The file
// is whole at any time: others may read it.
func (h *Hub) CA(ctx context.Context) (string, error) {
	client, err := kubernetes.NewForConfig(h.config.REST)
	if err != nil {
		return "", err
	}
	secret, err := client.CoreV1().Secrets(identity.HubNamespace).Get(ctx, "fairlead-ca-hub-serving", metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading the hub's CA: %w", err)
	}
	file := filepath.Join(h.config.Dir, "hub-ca.crt")
	made, err := os.CreateTemp(h.config.Dir, "hub-ca-*")
	if err != nil {
		return "", fmt.Errorf("writing the hub's CA: %w", err)
	}
	_, err = made.Write(secret.Data["tls.crt"])
	if err := errors.Join(err, made.Close()); err != nil {
		return "", fmt.Errorf("writing the hub's CA: %w", err)
	}
	// Tests that share the hub read it meanwhile.
	return file, os.Rename(made.Name(), file)
}

// CLI runs the CLI against the hub as the person of the hub's kubeconfig and
// returns what it printed.
func (h *Hub) CLI(ctx context.Context, args ...string) (string, error) {
	ca, err := h.CA(ctx)
	if err != nil {
		return "", err
	}
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	flags := []string{"--hub-address=" + h.AdminAddress, "--hub-ca-file=" + ca, "--kubeconfig=" + h.config.Kubeconfig}
	return output(bounded, append(os.Environ(), "FAIRLEAD_CONFIG="+filepath.Join(h.config.Dir, "cli.yaml")), h.config.Binaries.CLI, append(flags, args...)...)
}

// CLIFlags are the flags by which a person's own CLI reaches the hub.
func (h *Hub) CLIFlags(ctx context.Context) ([]string, error) {
	ca, err := h.CA(ctx)
	return []string{"--hub-address", h.AdminAddress, "--hub-ca-file", ca, "--kubeconfig", h.config.Kubeconfig}, err
}
