// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is what every command of the fairlead CLI shares: finding and
// calling the hub's admin listener as the person of a kubeconfig, printing,
// waiting, and turning errors into what to do next. It knows no command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// How long one call and one wait may take unless --timeout says otherwise.
const (
	callTimeout = 30 * time.Second
	waitTimeout = 5 * time.Minute
	// personTimeout is for a person who has to be told and to do something.
	personTimeout = 15 * time.Minute
)

// Options are the flags that every command has, and the world around it. Bind
// gives the flags their defaults, Streams is the real world.
type Options struct {
	ConfigFile  string
	ContextName string
	Address     string
	CAFile      string
	Kubeconfig  string
	KubeContext string
	Account     string
	Timeout     time.Duration

	In  io.Reader
	Out io.Writer // results
	Err io.Writer // progress, hints, what to do next
	// Terminal says that a person sits there: In may be asked, Err may be redrawn.
	Terminal bool
	Now      func() time.Time

	machine bool // the output is for a program
}

// Bind adds the shared flags.
func (o *Options) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.ConfigFile, "config", "", "file with the hubs you use (default: FAIRLEAD_CONFIG, then fairlead/config.yaml in your folder of configurations)")
	flags.StringVar(&o.ContextName, "hub-context", "", "context of the config file to use (default: its current one)")
	flags.StringVar(&o.Address, "hub-address", "", "host:port of the hub's admin listener")
	flags.StringVar(&o.CAFile, "hub-ca-file", "", "file with the CA certificate of the hub's admin listener")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of the hub's Kubernetes: who you are (default: as kubectl finds it)")
	flags.StringVar(&o.KubeContext, "context", "", "context of the kubeconfig")
	flags.StringVar(&o.Account, "service-account", "open-cluster-management-hub/fairlead-admin", "namespace/name of the ServiceAccount to act as when the kubeconfig has a certificate and no token")
	flags.DurationVar(&o.Timeout, "timeout", 0, "how long a call or a wait may take (default 30s for a call, 5m for a wait, 15m for a person)")
}

// Streams connects the options to the process.
func (o *Options) Streams() {
	o.In, o.Out, o.Err, o.Now = os.Stdin, os.Stdout, os.Stderr, time.Now
	o.Terminal = isTerminal(os.Stdin) && isTerminal(os.Stderr)
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Hub is a connection to the hub's admin listener, authenticated as a person.
type Hub struct {
	Enrollments adminv1.EnrollmentAdminServiceClient
	Clusters    adminv1.ClusterAdminServiceClient
	Works       adminv1.WorkAdminServiceClient
	Placements  adminv1.PlacementAdminServiceClient

	conn *grpc.ClientConn
}

// Close ends the connection.
func (h *Hub) Close() error { return h.conn.Close() }

// Command is what a command does with a hub.
type Command func(ctx context.Context, hub *Hub, args []string) error

// Run makes a cobra RunE of a command that calls the hub: it connects, bounds
// the call by --timeout, and explains errors.
func (o *Options) Run(f Command) func(*cobra.Command, []string) error {
	return o.runFor(f, func(ctx context.Context) (context.Context, context.CancelFunc) {
		return o.bound(ctx, callTimeout)
	})
}

// RunLong is Run for commands that watch or wait: they bound themselves.
func (o *Options) RunLong(f Command) func(*cobra.Command, []string) error {
	return o.runFor(f, func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} })
}

func (o *Options) runFor(f Command, bound func(context.Context) (context.Context, context.CancelFunc)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := bound(cmd.Context())
		defer cancel()
		hub, err := o.Dial(ctx)
		if err != nil {
			return err
		}
		return errors.Join(Explain(f(ctx, hub, args)), hub.Close())
	}
}

// Call bounds one call by --timeout.
func (o *Options) Call(ctx context.Context) (context.Context, context.CancelFunc) {
	return o.bound(ctx, callTimeout)
}

// Wait bounds a wait by --timeout.
func (o *Options) Wait(ctx context.Context) (context.Context, context.CancelFunc) {
	return o.bound(ctx, waitTimeout)
}

// WaitForPerson bounds a wait for somebody by --timeout.
func (o *Options) WaitForPerson(ctx context.Context) (context.Context, context.CancelFunc) {
	return o.bound(ctx, personTimeout)
}

func (o *Options) bound(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if o.Timeout > 0 {
		usual = o.Timeout
	}
	return context.WithTimeout(ctx, usual)
}

// Sayf prints a line of result.
func (o *Options) Sayf(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }

// Notef prints a line for people, on the error stream so that output can be piped.
func (o *Options) Notef(format string, args ...any) { fmt.Fprintf(o.Err, format+"\n", args...) }

// Nextf tells what to do next, unless a machine reads the output.
func (o *Options) Nextf(format string, args ...any) {
	if !o.machine {
		o.Notef("%s", oneLine(fmt.Sprintf("Next: "+format, args...)))
	}
}
