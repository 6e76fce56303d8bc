// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

// What becomes of workloads when the spoke leaves, as the agent's --on-detach.
const (
	onDetachKeep   = "Keep"
	onDetachDelete = "Delete"
)

// Unjoin is «fairlead unjoin».
func Unjoin(o *cli.Options) *cobra.Command {
	r := &request{o: o}
	u := &unjoin{}
	cmd := &cobra.Command{
		Use:   "unjoin --spoke-kubeconfig FILE",
		Short: "Take a cluster away from its hub, and the agent off the cluster",
		Long: "Take a cluster away from its hub, with the rights of an admin of this cluster alone: nobody on the hub is asked.\n\n" +
			"It ends the agent and takes its rights away, tells the hub so if it can be reached from here, and removes from the cluster\n" +
			"what «fairlead join» put there. What works applied stays (--on-detach Keep), or is deleted (--on-detach Delete).",
		Example: "  fairlead unjoin --spoke-kubeconfig eu-1.kubeconfig\n  fairlead unjoin --spoke-context eu-1 --on-detach Delete",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := u.check(r); err != nil {
				return err
			}
			s, err := r.reach(cmd.Context())
			if err != nil {
				return err
			}
			u.spoke = s
			return u.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&r.name, "name", "", "name of this cluster on the hub (default: the one that it joined with)")
	flags.StringVar(&r.kubeconfig, "spoke-kubeconfig", "", "kubeconfig of the cluster that leaves")
	flags.StringVar(&r.kubeContext, "spoke-context", "", "context of that kubeconfig")
	flags.StringVar(&r.dataDir, "data-dir", "", "where an agent outside the cluster keeps its key (default: where «fairlead join» puts it)")
	flags.StringVar(&u.onDetach, "on-detach", onDetachKeep, "what becomes of what works applied: Keep or Delete")
	flags.BoolVar(&u.tellHub, "tell-hub", true, "tell the hub, if it can be reached from here")
	choices := cobra.FixedCompletions([]cobra.Completion{onDetachKeep, onDetachDelete}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("on-detach", choices); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// unjoin is the way out.
type unjoin struct {
	*spoke

	onDetach string
	tellHub  bool

	process process
	account bool    // the agent's ServiceAccount is there
	known   record  // the agent's credentials, as far as they were found
	served  *served // what the cluster serves, once it was asked
}

func (u *unjoin) check(r *request) error {
	for _, choice := range []string{onDetachKeep, onDetachDelete} {
		if strings.EqualFold(u.onDetach, choice) {
			u.onDetach = choice
		}
	}
	if u.onDetach != onDetachKeep && u.onDetach != onDetachDelete {
		return cli.Usagef("--on-detach %q is not one of %s, %s", u.onDetach, onDetachKeep, onDetachDelete)
	}
	if r.kubeconfig == "" && r.kubeContext == "" {
		return cli.Usagef("say which cluster leaves: --spoke-kubeconfig FILE, or --spoke-context NAME of your kubeconfig")
	}
	return nil
}

// run takes the steps in an order that a repetition can go on from: the agent
// and its rights first, so that nobody applies any more what is taken away; the
// credentials, with which the hub is told, last.
func (u *unjoin) run(ctx context.Context) error {
	if err := u.find(ctx); err != nil {
		return err
	}
	if err := errors.Join(u.stopDeployment(ctx), u.stopProcess(ctx)); err != nil {
		return err
	}
	if err := u.fence(ctx); err != nil {
		return err
	}
	if err := u.workloads(ctx); err != nil {
		return err
	}
	told := u.tell(ctx)
	if err := u.remove(ctx); err != nil {
		return err
	}
	hub := or(u.known.hub, "its hub")
	u.o.Sayf("cluster %s has left %s", u.name, hub)
	if told {
		u.o.Nextf("the hub shows it as Detached; there «fairlead delete cluster %s --force --confirm %s» removes what it still has of it", u.name, u.name)
		return nil
	}
	u.o.Nextf("the hub was not told, and says Unknown a minute after the agent's last word; there «fairlead delete cluster %s --force --confirm %s» removes it", u.name, u.name)
	return nil
}

// find reads what there is of an agent before anything is changed.
func (u *unjoin) find(ctx context.Context) error {
	own, err := u.kube.CoreV1().ServiceAccounts(namespace).Get(ctx, account, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading ServiceAccount %s/%s of the cluster that leaves: %w", namespace, account, err)
	}
	u.account = err == nil
	if u.name == "" {
		u.name = own.GetAnnotations()[annotationName]
	}
	secret, err := u.kube.CoreV1().Secrets(namespace).Get(ctx, credentials, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading Secret %s/%s of the cluster that leaves: %w", namespace, credentials, err)
	}
	if err == nil {
		if err := u.ours(secret); err != nil {
			return err
		}
		u.known = recordOf(secret.Data)
		u.name = or(u.name, u.known.cluster)
	}
	if u.name == "" {
		return cli.Usagef("this cluster has no agent that «fairlead join» put there; if one runs elsewhere, say its --name, and its --data-dir")
	}
	if err := u.folder(); err != nil {
		return err
	}
	u.process = process{spoke: u.spoke}
	if u.known.hub == "" {
		u.known, err = u.process.record()
	}
	return err
}

// ours refuses the Secret of another agent: OCM's has the same name.
func (u *unjoin) ours(secret *corev1.Secret) error {
	if isOCMs(secret) {
		return errOCMs()
	}
	if len(secret.Data[keyHub]) == 0 && !u.account {
		return fmt.Errorf("this cluster has an agent that «fairlead join» did not put there: Secret %s/%s has no %s, and there is no ServiceAccount %s\n"+
			"Hint: if that Secret is of no agent at all, delete it first", namespace, credentials, keyHub, account)
	}
	return nil
}
