// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// finding is one thing to know about a cluster.
type finding struct {
	What   string    `json:"what"`
	State  string    `json:"state"`
	Since  time.Time `json:"since,omitzero"`
	Detail string    `json:"detail,omitempty"`
}

// Explain is «fairlead explain cluster».
func Explain(o *cli.Options) *cobra.Command {
	var form cli.Output
	cmd := &cobra.Command{
		Use:     "cluster NAME",
		Aliases: []string{"clusters", "mcl"},
		Short:   "Say why a cluster is not joined, not available or tainted, since when, and what to do",
		Example: "  fairlead explain cluster eu-1",
		Args:    cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			answer, err := hub.Clusters.GetCluster(ctx, &adminv1.GetClusterRequest{Name: args[0]})
			if err != nil {
				return err
			}
			managed := &clusterv1.ManagedCluster{}
			if raw := answer.GetManagedClusterJson(); raw != "" {
				if err := json.Unmarshal([]byte(raw), managed); err != nil {
					return fmt.Errorf("cluster %q as the hub shows it: %w", args[0], err)
				}
			}
			session, sessionErr := sessionOf(ctx, hub, args[0])
			list := findings(managed, session, sessionErr)
			verdict, next := verdictOf(answer.GetCluster(), managed, session.GetLive())
			if form.String() == cli.Table || form.String() == cli.Wide {
				o.Sayf("%s", verdict)
			}
			if err := findingKind(o).To(o, &form).List(list); err != nil {
				return err
			}
			o.Nextf("%s", next)
			return nil
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	form.Bind(o, cmd)
	return cmd
}

// sessionOf is the cluster's session, nil if it has none.
func sessionOf(ctx context.Context, hub *cli.Hub, name string) (*adminv1.SessionInfo, error) {
	answer, err := hub.Clusters.ListSessions(ctx, &adminv1.ListSessionsRequest{ClusterName: name})
	if err != nil || len(answer.GetSessions()) == 0 {
		return nil, err
	}
	return answer.GetSessions()[0], nil
}

// findings are the session, every condition and every taint.
func findings(managed *clusterv1.ManagedCluster, session *adminv1.SessionInfo, sessionErr error) []finding {
	var list []finding
	switch {
	case sessionErr != nil:
		list = append(list, finding{What: "session", State: "unknown", Detail: sessionErr.Error()})
	case session == nil:
		list = append(list, finding{What: "session", State: "none"})
	default:
		state := "connected"
		if !session.GetLive() {
			state = "held" // by a replica that does not say more
		}
		list = append(list, finding{
			What: "session", State: state, Since: session.GetStarted().AsTime(),
			Detail: fmt.Sprintf("agent %q at %s, hub replica %s", session.GetAgentId(), session.GetRemoteAddress(), session.GetHubReplica()),
		})
	}
	for _, c := range managed.Status.Conditions {
		what := strings.TrimPrefix(c.Type, "ManagedClusterCondition")
		list = append(list, finding{What: what, State: string(c.Status), Since: c.LastTransitionTime.Time, Detail: c.Reason + ": " + c.Message})
	}
	for _, t := range managed.Spec.Taints {
		list = append(list, finding{What: "taint", State: string(t.Effect), Since: t.TimeAdded.Time, Detail: strings.TrimSuffix(t.Key+"="+t.Value, "=")})
	}
	return list
}

// verdictOf is the first thing that is wrong, and what to do about it.
func verdictOf(c info, managed *clusterv1.ManagedCluster, connected bool) (verdict, next string) {
	name := c.GetName()
	is := func(kind string, status metav1.ConditionStatus) bool {
		return meta.IsStatusConditionPresentAndEqual(managed.Status.Conditions, kind, status)
	}
	switch {
	case managed.DeletionTimestamp != nil:
		return name + " is being deleted", fmt.Sprintf("«fairlead get works -c %s» shows what is still to be removed from it", name)
	case !c.GetHubAccepted() && c.GetJoined():
		return name + " is shut out: its acceptance was taken back", again(name)
	case !c.GetHubAccepted():
		return name + " waits for a person to accept it", fmt.Sprintf("«fairlead get enrollments» shows its pairing code, «fairlead accept %s» accepts it", name)
	case !c.GetJoined() && !connected:
		return name + " is accepted and its agent has not connected yet", "look at the agent's log on the cluster: it says whether it reaches the hub and what it waits for"
	case c.GetAvailable() == "False":
		return name + " is connected, and its kube-apiserver is not healthy", "«kubectl get --raw /livez?verbose» on the cluster says what is not; the taint goes when it is"
	case c.GetAvailable() != "True" && connected:
		return name + " is connected again and not yet taken as available", "it came and went several times: it has to stay for a minute; «fairlead get sessions -w» shows whether it does"
	case c.GetAvailable() != "True":
		return name + " is not available: the hub hears nothing from its agent", "is its agent running, and does it reach the hub? Its log says; the hub needs nothing done, and the taint goes when it is back"
	case is(clusterv1.ManagedClusterConditionClockSynced, metav1.ConditionFalse):
		return name + " is available, and its clock is not the hub's", "have NTP set the clocks of both"
	case len(managed.Spec.Taints) > 0:
		return name + " is available, and somebody has tainted it", fmt.Sprintf("«kubectl edit managedcluster %s» takes the taints off", name)
	}
	return name + " is accepted, joined and available", fmt.Sprintf("nothing is to be done; «fairlead get works -c %s» shows its works", name)
}

func findingKind(o *cli.Options) cli.Kind[finding] {
	return cli.Kind[finding]{
		Name: "finding",
		ID:   func(f finding) string { return f.What },
		Columns: []cli.Column[finding]{
			{Head: "WHAT", Of: func(f finding) string { return f.What }},
			{Head: "STATE", Of: func(f finding) string { return f.State }},
			{Head: "SINCE", Clock: true, Of: func(f finding) string {
				if f.Since.IsZero() {
					return ""
				}
				return o.Age(timestamppb.New(f.Since))
			}},
			{Head: "DETAIL", Of: func(f finding) string { return f.Detail }},
		},
		Object: func(f finding) (any, error) { return f, nil },
	}
}
