// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package enrollment has the commands by which the hub's side opts in.
package enrollment

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

type enrollment = *adminv1.Enrollment

// statePending is the state that waits for a person.
const statePending = "Pending"

// states are all that an enrollment can be in.
func states() []string {
	return []string{statePending, "Accepted", "Issued", "Active", "Denied", "Expired", "Detached", "Revoked"}
}

// Get is «fairlead get enrollments».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	var state string
	cmd := &cobra.Command{
		Use:     "enrollments [CLUSTER]",
		Aliases: []string{"enrollment", "enr"},
		Short:   "Show who asked to join, with the pairing code of each key",
		Example: "  fairlead get enrollments --state Pending -w",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if state != "" && !slices.ContainsFunc(states(), func(s string) bool { return strings.EqualFold(s, state) }) {
				return cli.Usagef("--state %q is not one of %s", state, strings.Join(states(), ", "))
			}
			printer := kind(o).To(o, &form)
			wanted := func(e enrollment) bool { return len(args) == 0 || e.GetClusterName() == args[0] }
			if watch {
				return enrollments(hub, state, wanted).Print(ctx, o, printer)
			}
			ctx, cancel := o.Call(ctx)
			defer cancel()
			all, err := list(ctx, hub, state)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(e enrollment) bool { return !wanted(e) })
			if err := printer.List(all); err != nil {
				return err
			}
			next(o, all)
			return nil
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	form.Bind(o, cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	cmd.Flags().StringVar(&state, "state", "", "only enrollments in this state")
	if err := cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// next says what the enrollments ask for.
func next(o *cli.Options, all []enrollment) {
	for _, e := range all {
		if e.GetState() == statePending {
			o.Nextf("compare the pairing code with what the agent of %s shows, then «fairlead accept %s --pairing-code CODE»", e.GetClusterName(), e.GetClusterName())
			return
		}
	}
	for _, e := range all {
		switch e.GetReason() {
		case reason.CertificateClone:
			o.Nextf("two hold the identity of %s: if the agent that you trust has serial %s (its log says so), «fairlead accept %s --serial %s»; else, or to be safe, «fairlead token create %s --re-enroll»",
				e.GetClusterName(), e.GetCertificateSerial(), e.GetClusterName(), e.GetCertificateSerial(), e.GetClusterName())
			return
		case v1alpha1.ReasonCertificateExpired:
			o.Nextf("the certificate of %s expired while its agent was away: «fairlead token create %s --re-enroll» makes a join string that brings it back", e.GetClusterName(), e.GetClusterName())
			return
		}
	}
	o.Nextf("nobody waits; «fairlead token create CLUSTER» makes a join string for another cluster")
}

func list(ctx context.Context, hub *cli.Hub, state string) ([]enrollment, error) {
	return cli.Pages(func(token string) ([]enrollment, string, error) {
		answer, err := hub.Enrollments.ListEnrollments(ctx, &adminv1.ListEnrollmentsRequest{State: state, PageToken: token})
		return answer.GetEnrollments(), answer.GetNextPageToken(), err
	})
}

func enrollments(hub *cli.Hub, state string, wanted func(enrollment) bool) cli.Stream[adminv1.WatchEnrollmentsResponse, enrollment] {
	return cli.Stream[adminv1.WatchEnrollmentsResponse, enrollment]{
		Open: func(ctx context.Context) (grpc.ServerStreamingClient[adminv1.WatchEnrollmentsResponse], error) {
			return hub.Enrollments.WatchEnrollments(ctx, &adminv1.WatchEnrollmentsRequest{State: state})
		},
		Read: func(raw *adminv1.WatchEnrollmentsResponse) (e cli.Event[enrollment], _ error) {
			if x := raw.GetUpsert(); x != nil && wanted(x) {
				e.Upsert = &x
			}
			e.Removed, e.Synced, e.Anew = raw.GetRemoved(), raw.GetBookmark().GetInitialSyncComplete(), raw.GetReset_() != nil
			return e, nil
		},
	}
}

func kind(o *cli.Options) cli.Kind[enrollment] {
	return cli.Kind[enrollment]{
		Name: "enrollment",
		ID:   enrollment.GetEnrollmentId,
		Columns: []cli.Column[enrollment]{
			{Head: "CLUSTER", Of: enrollment.GetClusterName},
			{Head: "STATE", Of: enrollment.GetState},
			{Head: "PAIRING CODE", Of: enrollment.GetPairingCode},
			{Head: "FROM", Of: enrollment.GetSourceAddress},
			{Head: "AGE", Clock: true, Of: func(x enrollment) string { return o.Age(x.GetCreated()) }},
			{Head: "SERIAL", Wide: true, Of: enrollment.GetCertificateSerial},
			{Head: "CERTIFICATE", Clock: true, Of: func(x enrollment) string { return o.Until(x.GetCertificateExpires()) }},
			{Head: "ENROLLMENT", Wide: true, Of: enrollment.GetEnrollmentId},
			{Head: "ACCEPTED BY", Wide: true, Of: enrollment.GetAcceptedBy},
			{Head: "AGENT", Wide: true, Of: enrollment.GetAgentId},
			{Head: "MESSAGE", Wide: true, Of: enrollment.GetMessage},
		},
		Object: func(x enrollment) (any, error) { return cli.Message(x) },
	}
}
