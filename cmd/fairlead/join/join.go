// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package join has the command by which a spoke's side opts in. It runs with the
// rights of the spoke's admin alone and never calls the hub: it checks the join
// string, writes the agent's namespace, identity and rights to the spoke, starts
// the agent or says how, and waits until the agent says that the hub let it in.
package join

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// How the agent is run.
const (
	modeAuto       = "auto"
	modeProcess    = "process"
	modeDeployment = "deployment"
	modePrint      = "print"
)

// request is what the command is told.
type request struct {
	o *cli.Options

	text string // the join string as given
	join pki.JoinString
	name string

	kubeconfig, kubeContext string
	roles                   []string
	clusterAdmin            bool
	mode, image, binary     string
	dataDir                 string
	proxyURL, proxyCA       string
	wait                    bool
}

// Command is «fairlead join».
func Command(o *cli.Options) *cobra.Command {
	r := &request{o: o}
	cmd := &cobra.Command{
		Use:   "join JOIN-STRING --spoke-kubeconfig FILE",
		Short: "Join a cluster to a hub, with a join string of that hub",
		Long: "Join a cluster to a hub, with the join string that «fairlead token create» printed there.\n\n" +
			"It needs rights on this cluster only, those of an admin, and no way to the hub but the agent's own. It installs the agent's\n" +
			"namespace, ServiceAccount and rights, runs the agent, and shows the pairing code that the hub's admin has to repeat.\n\n" +
			"What the hub can ever do on this cluster is decided here, by the rights that the agent gets: --role workloads lets it\n" +
			"manage applications, --role none nothing at all, --role NAME what that ClusterRole of yours allows, and --cluster-admin\n" +
			"everything. Repeating the command with other roles changes them.",
		Example: "  fairlead join flj1_… --spoke-kubeconfig eu-1.kubeconfig\n" +
			"  fairlead join flj1_… --name edge-7 --spoke-context edge-7 --agent deployment --image registry.example/fairlead-agent:v1\n" +
			"  fairlead join flj1_… --spoke-kubeconfig eu-1.kubeconfig --proxy-url https://proxy.example:3128 --proxy-ca proxy.crt",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(cmd.Context(), args); err != nil {
				return err
			}
			return r.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	r.bind(cmd.Flags())
	modes := cobra.FixedCompletions([]cobra.Completion{modeAuto, modeProcess, modeDeployment, modePrint}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("agent", modes); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (r *request) bind(flags *pflag.FlagSet) {
	flags.StringVar(&r.name, "name", "", "name of this cluster on the hub (default: the one in the join string)")
	flags.StringVar(&r.kubeconfig, "spoke-kubeconfig", "", "kubeconfig of the cluster that joins")
	flags.StringVar(&r.kubeContext, "spoke-context", "", "context of that kubeconfig")
	flags.StringSliceVar(&r.roles, "role", []string{roleWorkloads}, "what works may do here: workloads, none, or names of ClusterRoles")
	flags.BoolVar(&r.clusterAdmin, "cluster-admin", false, "let works do everything here: the hub's admins become admins of this cluster")
	flags.StringVar(&r.mode, "agent", modeAuto, "how to run the agent: process (here, in the background), deployment (in the cluster), print (say how)")
	flags.StringVar(&r.image, "image", "", "image of the agent, for --agent deployment")
	flags.StringVar(&r.binary, "agent-binary", "", "the agent's program, for --agent process (default: beside this one, or on PATH)")
	flags.StringVar(&r.dataDir, "data-dir", "", "where an agent outside the cluster keeps its key and what it received (default: a folder of its own beside your config)")
	flags.StringVar(&r.proxyURL, "proxy-url", "", "proxy through which the agent reaches the hub: http:// or https://[USER:PASSWORD@]HOST:PORT, or direct (default: what HTTPS_PROXY and NO_PROXY say where it runs)")
	flags.StringVar(&r.proxyCA, "proxy-ca", "", "file with certificates (PEM) that verify an https:// proxy, besides the system's")
	flags.BoolVar(&r.wait, "wait", true, "wait until the cluster is accepted and connected")
}

// check reads what can be judged without a word to anybody.
func (r *request) check(ctx context.Context, args []string) (err error) {
	if r.text, err = r.joinText(args); err != nil {
		return err
	}
	if r.join, err = pki.ParseJoinString(r.text); err != nil {
		return cli.Refuse(reason.InvalidJoinString, "%v", err)
	}
	switch {
	case r.name == "" && r.join.Name == "":
		return cli.Usagef("the join string is for several clusters: say which one this is with --name")
	case r.name == "":
		r.name = r.join.Name
	case r.join.Name != "" && r.join.Name != r.name:
		return cli.Refuse(reason.NameNotAllowed, "the join string is for cluster %q, and --name says %q", r.join.Name, r.name)
	}
	if identity.ValidateClusterName(r.name) != nil {
		return cli.Refuse(reason.InvalidName, "%q cannot be the name of a cluster: it begins and ends with a letter or digit", r.name)
	}
	if r.kubeconfig == "" && r.kubeContext == "" {
		return cli.Usagef("say which cluster joins: --spoke-kubeconfig FILE, or --spoke-context NAME of your kubeconfig")
	}
	if _, err := dialer.New(dialer.Config{ProxyURL: r.proxyURL, ProxyCAFile: r.proxyCA}); err != nil {
		return cli.Usagef("--proxy-url, --proxy-ca: %v", err)
	}
	if r.mode == modeDeployment && r.image == "" {
		return cli.Usagef("--agent deployment needs --image")
	}
	return r.chooseMode(ctx)
}

// joinText takes the join string from the arguments, or, where a shell's history
// and a process list are not to see it, from standard input.
func (r *request) joinText(args []string) (string, error) {
	switch {
	case len(args) == 0:
		return "", cli.Usagef("a join string is needed: «fairlead token create %s» on the hub prints one; - reads it from standard input", orName(r.name))
	case args[0] != "-":
		return args[0], nil
	}
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(r.o.In, most))
	if err != nil {
		return "", fmt.Errorf("reading the join string: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func orName(name string) string {
	if name == "" {
		return "NAME"
	}
	return name
}

// run is the whole way: look, write, start, wait.
func (r *request) run(ctx context.Context) error {
	s, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if err := s.preflight(ctx); err != nil {
		return err
	}
	if err := s.install(ctx); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	switch r.mode {
	case modePrint:
		r.o.Sayf("%s", s.commandLine())
		r.o.Nextf("run this where it reaches the hub and the cluster; it shows a pairing code, with which the hub's admin says: fairlead accept %s --pairing-code CODE", r.name)
		return nil
	case modeDeployment:
		return s.finish(ctx, &deployment{spoke: s})
	}
	return s.finish(ctx, &process{spoke: s})
}

// finish starts the agent and waits until it is connected.
func (s *spoke) finish(ctx context.Context, a agent) error {
	if err := a.start(ctx); err != nil {
		return err
	}
	if !s.wait {
		s.o.Nextf("%s", a.hint())
		return nil
	}
	return s.await(ctx, a)
}
