// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enrollment

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Accept is «fairlead accept».
func Accept(o *cli.Options) *cobra.Command {
	request := &adminv1.AcceptEnrollmentRequest{}
	cmd := &cobra.Command{
		Use:   "accept CLUSTER",
		Short: "Accept a cluster, repeating the pairing code that its agent shows",
		Long: "Accept a cluster that asks to join. The pairing code is that of the agent's own key: read it where the agent runs\n" +
			"(«fairlead join» shows it, and so does its log), not from the hub, or you accept whoever came first.\n" +
			"\n" +
			"After a certificate was cloned it is the serial of the certificate that the agent you trust has, as its log shows it:\n" +
			"that one is served again, and every other is refused from then on.",
		Example: "  fairlead accept eu-1 --pairing-code ABCD-EFGH-IJKL\n" +
			"  fairlead accept eu-1 --serial 5d1c0a7e…",
		Args: cobra.ExactArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.ClusterName = args[0]
			if request.GetPairingCode() == "" && request.GetCertificateSerial() == "" {
				code, err := ask(o, args[0])
				if err != nil {
					return err
				}
				request.PairingCode = code
			}
			ctx, cancel := o.Call(ctx)
			defer cancel()
			answer, err := hub.Enrollments.AcceptEnrollment(ctx, request)
			if err != nil {
				return err
			}
			if serial := request.GetCertificateSerial(); serial != "" {
				o.Sayf("certificate %s of cluster %s is served again; every other is refused", serial, args[0])
				o.Nextf("if a key was stolen, replace what is left of it: «fairlead token create %s --re-enroll»", args[0])
				return nil
			}
			o.Sayf("cluster %s accepted (enrollment %s)", args[0], answer.GetEnrollment().GetEnrollmentId())
			o.Nextf("«fairlead get clusters -w» shows it join; «fairlead create work NAME --clusters %s -f FILE» sends work", args[0])
			return nil
		}),
		ValidArgsFunction: o.Complete(waiting),
	}
	cmd.Flags().StringVar(&request.PairingCode, "pairing-code", "", "the code that the agent shows (asked for on a terminal)")
	cmd.Flags().StringVar(&request.CertificateSerial, "serial", "", "the serial of the agent's certificate, in place of a pairing code, after one was cloned")
	cmd.Flags().StringVar(&request.EnrollmentId, "enrollment", "", "id of the enrollment, where several keys ask for one name")
	return cmd
}

func ask(o *cli.Options, cluster string) (string, error) {
	if !o.Terminal {
		return "", cli.Usagef("no --pairing-code: give the code that the agent of %s shows", cluster)
	}
	fmt.Fprintf(o.Err, "Pairing code that the agent of %s shows: ", cluster)
	line, err := bufio.NewReader(o.In).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("reading the pairing code: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// Deny is «fairlead deny».
func Deny(o *cli.Options) *cobra.Command {
	request := &adminv1.DenyEnrollmentRequest{}
	cmd := &cobra.Command{
		Use:   "deny CLUSTER",
		Short: "Refuse a cluster that asks to join",
		Args:  cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.ClusterName = args[0]
			if _, err := hub.Enrollments.DenyEnrollment(ctx, request); err != nil {
				return err
			}
			o.Sayf("cluster %s denied", args[0])
			o.Nextf("its token may be good for another key still: «fairlead token list»")
			return nil
		}),
		ValidArgsFunction: o.Complete(waiting),
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, as the agent is told")
	cmd.Flags().StringVar(&request.EnrollmentId, "enrollment", "", "id of the enrollment, where several keys ask for one name")
	return cmd
}

// waiting lists the clusters that wait for a decision.
func waiting(ctx context.Context, hub *cli.Hub, _ []string) ([]string, error) {
	all, err := list(ctx, hub, statePending)
	return cli.NamesOf(all, enrollment.GetClusterName), err
}
