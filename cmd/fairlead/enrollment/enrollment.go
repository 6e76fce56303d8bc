// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package enrollment has the commands by which the hub's side opts in.
package enrollment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Get is «fairlead get enrollments».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	var state string
	cmd := &cobra.Command{
		Use:     "enrollments",
		Aliases: []string{"enrollment", "enr"},
		Short:   "Show who asked to join, with the pairing code of each key",
		Args:    cobra.NoArgs,
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, _ []string) error {
			print := printer(time.Now()).To(o.Out, form)
			if watch {
				return follow(ctx, hub, state, print)
			}
			answer, err := hub.Enrollments.ListEnrollments(ctx, &adminv1.ListEnrollmentsRequest{State: state})
			if err != nil {
				return err
			}
			if err := print.List(answer.GetEnrollments()); err != nil {
				return err
			}
			o.Next("«fairlead accept CLUSTER --pairing-code CODE» with the code that the agent shows")
			return nil
		}),
	}
	form.Bind(cmd.Flags())
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	cmd.Flags().StringVar(&state, "state", "", "only enrollments in this state, such as Pending")
	return cmd
}

func follow(ctx context.Context, hub *cli.Hub, state string, print *cli.Printer[*adminv1.Enrollment]) error {
	stream, err := hub.Enrollments.WatchEnrollments(ctx, &adminv1.WatchEnrollmentsRequest{State: state})
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		if e := event.GetUpsert(); e != nil {
			if err := print.One(e); err != nil {
				return err
			}
		}
	}
}

func printer(now time.Time) *cli.Printer[*adminv1.Enrollment] {
	type e = *adminv1.Enrollment
	return &cli.Printer[e]{
		Kind: "enrollment",
		Name: e.GetEnrollmentId,
		Columns: []cli.Column[e]{
			{Head: "CLUSTER", Of: e.GetClusterName},
			{Head: "STATE", Of: e.GetState},
			{Head: "PAIRING CODE", Of: e.GetPairingCode},
			{Head: "FROM", Of: e.GetSourceAddress},
			{Head: "AGE", Of: func(x e) string { return cli.Age(now, x.GetCreated()) }},
			{Head: "CERTIFICATE", Of: func(x e) string { return cli.Until(now, x.GetCertificateExpires()) }},
			{Head: "ACCEPTED BY", Wide: true, Of: e.GetAcceptedBy},
			{Head: "AGENT", Wide: true, Of: e.GetAgentId},
			{Head: "MESSAGE", Wide: true, Of: e.GetMessage},
		},
		Object: func(x e) (any, error) { return cli.Message(x) },
	}
}

// Accept is «fairlead accept».
func Accept(o *cli.Options) *cobra.Command {
	request := &adminv1.AcceptEnrollmentRequest{}
	cmd := &cobra.Command{
		Use:   "accept CLUSTER",
		Short: "Accept a cluster, repeating the pairing code that its agent shows",
		Args:  cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.ClusterName = args[0]
			if request.PairingCode == "" {
				code, err := ask(o, args[0])
				if err != nil {
					return err
				}
				request.PairingCode = code
			}
			answer, err := hub.Enrollments.AcceptEnrollment(ctx, request)
			if err != nil {
				return err
			}
			fmt.Fprintf(o.Out, "cluster %s accepted (enrollment %s is %s)\n", args[0], answer.GetEnrollment().GetEnrollmentId(), answer.GetEnrollment().GetState())
			o.Next("«fairlead get clusters -w» shows it join; «fairlead create work NAME --clusters %s -f FILE» sends work", args[0])
			return nil
		}),
		ValidArgsFunction: o.Completion(pending),
	}
	cmd.Flags().StringVar(&request.PairingCode, "pairing-code", "", "the code that the agent shows (asked for on a terminal)")
	cmd.Flags().StringVar(&request.EnrollmentId, "enrollment", "", "the enrollment, where several keys ask for one name")
	return cmd
}

func ask(o *cli.Options, cluster string) (string, error) {
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return "", errors.New("no --pairing-code: give the code that the agent of the cluster shows")
	}
	fmt.Fprintf(o.Err, "Pairing code that the agent of %s shows: ", cluster)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
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
			fmt.Fprintf(o.Out, "cluster %s denied\n", args[0])
			o.Next("its token may be good for another key still: «fairlead token list»")
			return nil
		}),
		ValidArgsFunction: o.Completion(pending),
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, as the agent is told")
	cmd.Flags().StringVar(&request.EnrollmentId, "enrollment", "", "the enrollment, where several keys ask for one name")
	return cmd
}

func pending(ctx context.Context, hub *cli.Hub) ([]string, error) {
	answer, err := hub.Enrollments.ListEnrollments(ctx, &adminv1.ListEnrollmentsRequest{State: "Pending"})
	var names []string
	for _, e := range answer.GetEnrollments() {
		names = append(names, e.GetClusterName())
	}
	return names, err
}
