// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// peerURL is etcd's address among its peers. A single etcd never dials it, and
// it listens on a unix socket anyway.
const peerURL = "http://127.0.0.1:2380"

// arguments are the flags of a component.
func (p *Plane) arguments(component Component) []string {
	switch component {
	case Etcd:
		return append([]string{
			"--name=default", "--data-dir=" + p.etcdData(), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=" + p.etcdURL(), "--advertise-client-urls=" + p.etcdURL(),
			"--listen-peer-urls=unix://" + filepath.Join(p.sockets, "peer.sock"),
			"--initial-advertise-peer-urls=" + peerURL, "--initial-cluster=default=" + peerURL,
		}, p.options.EtcdFlags...)
	case APIServer:
		return p.apiserverArguments()
	case ControllerManager:
		return append(p.clientArguments(component),
			"--use-service-account-credentials=true",
			"--root-ca-file="+p.file("ca.crt"), "--service-account-private-key-file="+p.file("sa.key"),
			"--cluster-signing-cert-file="+p.file("ca.crt"), "--cluster-signing-key-file="+p.file("ca.key"),
			"--service-cluster-ip-range="+serviceRange)
	case Scheduler:
		return p.clientArguments(component)
	case Kwok:
		return []string{
			"--kubeconfig=" + p.Kubeconfig(), "--manage-all-nodes=true", "--node-lease-duration-seconds=40",
			"--cidr=10.1.0.0/16", "--node-ip=127.0.0.1", "--server-address=",
		}
	default:
		return nil
	}
}

const serviceRange = "10.0.0.0/16"

func (p *Plane) apiserverArguments() []string {
	args := []string{
		"--etcd-servers=" + p.etcdURL(),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		fmt.Sprintf("--secure-port=%d", p.port.number), "--permit-port-sharing=true",
		"--tls-cert-file=" + p.file("apiserver.crt"), "--tls-private-key-file=" + p.file("apiserver.key"),
		"--client-ca-file=" + p.file("ca.crt"), "--cert-dir=" + p.dir,
		"--service-account-issuer=" + p.admin.Host,
		"--service-account-key-file=" + p.file("sa.key"), "--service-account-signing-key-file=" + p.file("sa.key"),
		"--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=Node,RBAC", "--allow-privileged=true", "--profiling=false",
	}
	if !p.options.ControllerManager {
		// Nobody makes the ServiceAccounts that this plugin demands of Pods.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	if !p.options.NoAudit {
		args = append(args, "--audit-policy-file="+p.file("audit-policy.yaml"), "--audit-log-path="+p.file("audit.log"),
			"--audit-log-maxsize=100000") // megabytes: never rotated
	}
	return append(args, p.options.APIServerFlags...)
}

// clientArguments are those of a component that serves nothing here.
func (p *Plane) clientArguments(component Component) []string {
	kubeconfig := p.file(string(component) + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--secure-port=0", "--leader-elect=false",
		"--kube-api-qps=1000", "--kube-api-burst=1000", // the default makes the start of the controllers take seconds more
	}
}

func (p *Plane) etcdURL() string  { return "unix://" + filepath.Join(p.sockets, "etcd.sock") }
func (p *Plane) etcdData() string { return p.file("etcd") }

// ready returns nil when a component that was started does its work.
func (p *Plane) ready(ctx context.Context, component Component) error {
	switch component {
	case Etcd: // the apiserver waits for it
		_, err := os.Stat(filepath.Join(p.sockets, "etcd.sock"))
		return err
	case APIServer:
		return p.apiserverReady(ctx)
	case ControllerManager:
		return p.withClient(func(c kubernetes.Interface) error {
			_, err := c.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
			return err
		})
	default: // shown by its effects: addNodes waits for kwok
		return nil
	}
}

// apiserverReady also waits for the namespace that the apiserver makes soon
// after it has become ready.
func (p *Plane) apiserverReady(ctx context.Context) error {
	return p.withClient(func(c kubernetes.Interface) error {
		body, err := c.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("%w: %s", err, body)
		}
		_, err = c.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	})
}

// withClient calls f with a client of its own connections, closed afterwards.
func (p *Plane) withClient(f func(kubernetes.Interface) error) error {
	client, err := rest.HTTPClientFor(p.admin)
	if err != nil {
		return fmt.Errorf("making a client of plane %q: %w", p.name, err)
	}
	clients, err := kubernetes.NewForConfigAndClient(p.admin, client)
	if err != nil {
		return fmt.Errorf("making a client of plane %q: %w", p.name, err)
	}
	return f(clients)
}

// addNodes makes count Nodes and waits until kwok reports them Ready.
func (p *Plane) addNodes(ctx context.Context, count int) error {
	if count == 0 {
		return nil
	}
	kwok := p.process(Kwok)
	if kwok == nil {
		return fmt.Errorf("Options.Nodes is %d without Options.Kwok: nobody would make the Nodes Ready", count)
	}
	return p.withClient(func(c kubernetes.Interface) error {
		for i := range count {
			if _, err := c.CoreV1().Nodes().Create(ctx, node(i), metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("adding a Node: %w", err)
			}
		}
		return kwok.until(ctx, func(ctx context.Context) error { return nodesReady(ctx, c, count) })
	})
}

func node(i int) *corev1.Node {
	name := fmt.Sprintf("node-%d", i)
	size := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("32"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("1000"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{Capacity: size, Allocatable: size},
	}
}

func nodesReady(ctx context.Context, c kubernetes.Interface, want int) error {
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, n := range nodes.Items {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready < want {
		return fmt.Errorf("%d of %d Nodes are Ready", ready, want)
	}
	return nil
}
