// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Component names one program of a plane.
type Component string

// The components of a plane, in the order they start; they stop in reverse.
const (
	Etcd              Component = "etcd"
	APIServer         Component = "kube-apiserver"
	ControllerManager Component = "kube-controller-manager"
	Scheduler         Component = "kube-scheduler"
	Kwok              Component = "kwok"
)

// Options say what a plane has beyond etcd and an apiserver. The zero value is
// the fastest plane: no garbage collector, no namespace deletion, no CSR signer,
// no default ServiceAccounts, and the ClusterRoles admin, edit and view are empty.
type Options struct {
	// Name stands in messages and in the plane's folder. Default "plane".
	Name string
	// Dir keeps the plane's files and is left behind by Stop; it must not exist
	// or be empty. Default: a temporary folder, removed by Stop.
	Dir string

	ControllerManager bool
	Scheduler         bool
	// Kwok makes Nodes Ready and Pods run; Deployments need ControllerManager
	// and Scheduler besides.
	Kwok bool
	// Nodes is how many Nodes Start makes and waits for; needs Kwok.
	Nodes int

	// EtcdFlags and APIServerFlags are added last, so they win.
	EtcdFlags, APIServerFlags []string
	// NoAudit turns the audit log off (see Plane.AuditEvents).
	NoAudit bool
	// CRDs are YAML texts, such as deploy.HubCRDs(); Start waits until they are
	// Established. Documents of other kinds are skipped.
	CRDs [][]byte
}

// Plane is a running Kubernetes control plane on loopback. Its methods may be
// called concurrently, except those that stop or start components.
type Plane struct {
	name    string
	dir     string
	ownDir  bool
	binary  string
	options Options

	ca      *authority
	admin   *rest.Config
	port    *port
	sockets string

	mu        sync.Mutex
	processes map[Component]*process
	snapshots int
	names     int // given by Unique
}

// startTimeout bounds a start on a machine that is busy with everything else.
const startTimeout = 2 * time.Minute

// Start starts a plane and returns when it serves; ctx bounds the start only.
// The caller calls Stop. Output of the components is in LogDir.
func Start(ctx context.Context, options Options) (*Plane, error) {
	binary, _, err := binary(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	p := &Plane{name: options.Name, binary: binary, options: options, processes: map[Component]*process{}}
	if p.name == "" {
		p.name = "plane"
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.start(ctx); err != nil {
		p.halt()
		return nil, fmt.Errorf("starting plane %q (its files are left in %q): %w", p.name, p.dir, err)
	}
	return p, nil
}

func (p *Plane) start(ctx context.Context) error {
	if err := p.prepare(); err != nil {
		return err
	}
	if err := p.launchAll(ctx); err != nil {
		return err
	}
	if err := InstallCRDs(ctx, p.admin, p.options.CRDs...); err != nil {
		return err
	}
	return p.addNodes(ctx, p.options.Nodes)
}

// prepare makes everything that the components need on disk.
func (p *Plane) prepare() (err error) {
	if p.dir, p.ownDir, err = makeDir(p.options.Dir, p.name); err != nil {
		return err
	}
	if p.sockets, err = socketDir(p.dir); err != nil {
		return err
	}
	if p.port, err = reservePort(); err != nil {
		return err
	}
	if p.ca, err = newAuthority("devplane " + p.name); err != nil {
		return err
	}
	if err := writePKI(p.dir, p.ca); err != nil {
		return err
	}
	p.admin = &rest.Config{Host: fmt.Sprintf("https://127.0.0.1:%d", p.port.number)}
	if err := p.writeKubeconfigs(); err != nil {
		return err
	}
	return os.WriteFile(p.file("audit-policy.yaml"), []byte(auditPolicy), 0o600)
}

func makeDir(dir, name string) (path string, own bool, err error) {
	if dir == "" {
		dir, err = os.MkdirTemp("", "fairlead-"+name+"-")
		return dir, true, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", false, fmt.Errorf("plane's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", false, fmt.Errorf("making the plane's folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("the plane's folder %q is not empty; remove it or name another one", dir)
	}
	return dir, false, err
}

// socketDir is the plane's folder unless socket paths in it would be too long
// for the kernel.
func socketDir(dir string) (string, error) {
	if len(dir) < 80 {
		return dir, nil
	}
	short, err := os.MkdirTemp("/tmp", "fairlead-")
	if err != nil {
		return "", fmt.Errorf("making a folder for etcd's socket: %w", err)
	}
	return short, nil
}

// components lists what this plane runs, in starting order.
func (p *Plane) components() []Component {
	wanted := map[Component]bool{
		Etcd: true, APIServer: true,
		ControllerManager: p.options.ControllerManager, Scheduler: p.options.Scheduler, Kwok: p.options.Kwok,
	}
	all := []Component{Etcd, APIServer, ControllerManager, Scheduler, Kwok}
	return slices.DeleteFunc(all, func(c Component) bool { return !wanted[c] })
}

// launchAll starts every component; those behind the apiserver start together.
func (p *Plane) launchAll(ctx context.Context) error {
	all := p.components()
	for _, component := range all[:2] {
		if err := p.Launch(ctx, component); err != nil {
			return err
		}
	}
	for _, component := range all[2:] {
		if _, err := p.spawn(component); err != nil {
			return err
		}
	}
	for _, component := range all[2:] {
		if err := p.await(ctx, p.process(component)); err != nil {
			return err
		}
	}
	return nil
}

// Launch starts a component that is not running and returns when it is ready.
func (p *Plane) Launch(ctx context.Context, component Component) error {
	started, err := p.spawn(component)
	if err != nil {
		return err
	}
	return p.await(ctx, started)
}

func (p *Plane) spawn(component Component) (*process, error) {
	if old := p.process(component); old != nil && old.running() {
		return nil, fmt.Errorf("%s of plane %q is running already; Kill it first", component, p.name)
	}
	started, err := startProcess(p.binary, p.dir, component, p.arguments(component))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.processes[component] = started
	return started, nil
}

func (p *Plane) await(ctx context.Context, started *process) error {
	return started.until(ctx, func(ctx context.Context) error { return p.ready(ctx, started.name) })
}

// Kill ends a component with SIGKILL and returns when it is gone. Launch starts
// it again, on the same address and data.
func (p *Plane) Kill(component Component) {
	if running := p.process(component); running != nil {
		running.stop(0)
	}
}

// Signal sends a signal to a component, as SIGSTOP and SIGCONT to hang it.
func (p *Plane) Signal(component Component, signal os.Signal) error {
	running := p.process(component)
	if running == nil || !running.running() {
		return fmt.Errorf("%s of plane %q is not running", component, p.name)
	}
	return running.cmd.Process.Signal(signal)
}

// PID returns the process of a component, or 0 if it is not running.
func (p *Plane) PID(component Component) int {
	running := p.process(component)
	if running == nil || !running.running() {
		return 0
	}
	return running.cmd.Process.Pid
}

// RestartAPIServer kills the apiserver and starts it again on the same address.
func (p *Plane) RestartAPIServer(ctx context.Context) error {
	p.Kill(APIServer)
	return p.Launch(ctx, APIServer)
}

// Stop ends the plane and removes its folder, unless Options.Dir named it.
func (p *Plane) Stop() {
	p.halt()
	if p.ownDir {
		_ = os.RemoveAll(p.dir)
	}
}

// StopAndKeep is Stop, leaving the plane's folder for whoever looks for the
// reason of a failure.
func (p *Plane) StopAndKeep() { p.halt() }

// LogDir is the plane's folder: <component>.log, audit.log, kubeconfigs, PKI.
func (p *Plane) LogDir() string { return p.dir }

// halt ends every component, the apiserver before etcd. Nothing of them is
// needed afterwards, so nobody waits for graceful ends.
func (p *Plane) halt() {
	for _, component := range slices.Backward(p.components()) {
		p.Kill(component)
	}
	if p.port != nil {
		p.port.release()
		p.port = nil
	}
	if p.sockets != p.dir && p.sockets != "" {
		_ = os.RemoveAll(p.sockets)
	}
}

func (p *Plane) process(component Component) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.processes[component]
}

func (p *Plane) file(name string) string { return filepath.Join(p.dir, name) }
