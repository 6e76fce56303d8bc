// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// RESTConfig returns a config with every right (group system:masters). The
// caller owns it.
func (p *Plane) RESTConfig() *rest.Config { return rest.CopyConfig(p.admin) }

// Kubeconfig returns the path of a kubeconfig with every right.
func (p *Plane) Kubeconfig() string { return p.file("admin.kubeconfig") }

// ConfigFor returns a config that is user, in groups, by client certificate. It
// has no rights but those that RBAC gives them.
func (p *Plane) ConfigFor(user string, groups ...string) (*rest.Config, error) {
	client, err := p.ca.client(user, groups)
	if err != nil {
		return nil, err
	}
	return client.config(p.admin.Host, p.ca.pem), nil
}

// TokenConfig returns a config that is the ServiceAccount, which must exist, by
// a token of one hour.
func (p *Plane) TokenConfig(ctx context.Context, namespace, serviceAccount string) (*rest.Config, error) {
	clients, err := kubernetes.NewForConfig(p.admin)
	if err != nil {
		return nil, fmt.Errorf("making a client of plane %q: %w", p.name, err)
	}
	hour := int64(3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}
	request, err = clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking plane %q for a token of ServiceAccount %s/%s: %w", p.name, namespace, serviceAccount, err)
	}
	return &rest.Config{
		Host:            p.admin.Host,
		QPS:             -1,
		BearerToken:     request.Status.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: p.ca.pem},
	}, nil
}

// Kubectl runs kubectl with every right and returns its standard output; the
// error of a failed run holds its standard error.
func (p *Plane) Kubectl(ctx context.Context, args ...string) (string, error) {
	return p.KubectlInput(ctx, nil, args...)
}

// KubectlInput is Kubectl with a standard input, as for "apply -f -".
func (p *Plane) KubectlInput(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.binary, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.Kubeconfig(), "HOME="+p.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// WriteKubeconfig writes config as a kubeconfig file, for programs that take a
// path. Only data in the config is written, not the files it may name.
func WriteKubeconfig(path string, config *rest.Config) error {
	const name = "plane"
	kubeconfig := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}
	if err := clientcmd.WriteToFile(kubeconfig, path); err != nil {
		return fmt.Errorf("writing the kubeconfig %q: %w", path, err)
	}
	return nil
}

// writeKubeconfigs writes one kubeconfig for each client inside the plane.
func (p *Plane) writeKubeconfigs() error {
	users := map[string]struct {
		name   string
		groups []string
	}{
		"admin":                   {"admin", []string{"system:masters"}},
		string(ControllerManager): {"system:kube-controller-manager", nil},
		string(Scheduler):         {"system:kube-scheduler", nil},
	}
	for _, file := range slices.Sorted(maps.Keys(users)) {
		config, err := p.ConfigFor(users[file].name, users[file].groups...)
		if err != nil {
			return err
		}
		if err := WriteKubeconfig(p.file(file+".kubeconfig"), config); err != nil {
			return err
		}
		if file == "admin" {
			p.admin = config
		}
	}
	return nil
}
