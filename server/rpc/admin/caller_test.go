// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
)

// TestT70_the_audit_log_names_the_person gives the hub every kind of credential
// that a hub can have, each an admin's, and looks at who the apiserver saw.
func TestT70_the_audit_log_names_the_person(t *testing.T) {
	plane := env.Shared(t)
	powerful := newFace(t).token(t, "hub-start", "", rule("*", "*", "*"))
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(powerful), 0o600))
	bare := func() *rest.Config { return rest.AnonymousClientConfig(plane.RESTConfig()) }
	hubs := map[string]struct {
		reason string
		hub    func() *rest.Config
	}{
		"certificate": {"a kubeconfig with a client certificate", plane.RESTConfig},
		"token":       {"a kubeconfig with a token", func() *rest.Config { c := bare(); c.BearerToken = powerful; return c }},
		"in-cluster":  {"rest.InClusterConfig has a token and a token file, which wins", func() *rest.Config { c := bare(); c.BearerToken, c.BearerTokenFile = powerful, file; return c }},
		"impersonate": {"a kubeconfig that impersonates", func() *rest.Config { c := plane.RESTConfig(); c.Impersonate.UserName = "somebody"; return c }},
		"plugin": {"a kubeconfig with an exec plugin", func() *rest.Config {
			c := bare()
			c.ExecProvider = &clientcmdapi.ExecConfig{Command: "false", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}
			return c
		}},
	}
	for name, tc := range hubs {
		t.Run(name, func(t *testing.T) {
			f := newFaceOf(t, tc.hub())
			cluster := "t70-" + name
			cluster = f.cluster(t, cluster)
			token := f.token(t, cluster, "", works(), looks(), rule("fairlead.dev", "jointokens", "create"))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
			_, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: "w", WorkJson: workJSON(manifest("a", 1))})
			require.NoError(t, err, tc.reason)
			_, err = f.Enrollments.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{ClusterName: cluster})
			require.NoError(t, err, tc.reason)

			person := "system:serviceaccount:people:" + cluster
			written, err := plane.AuditEvents(func(e *auditv1.Event) bool {
				return e.ObjectRef != nil && e.ObjectRef.Namespace == cluster && e.ObjectRef.Resource == "manifestworks"
			})
			require.NoError(t, err)
			require.NotEmpty(t, written)
			for _, e := range written {
				require.Equal(t, person, e.User.Username, "%s: %s", tc.reason, e.Verb)
				require.Nil(t, e.ImpersonatedUser)
			}
			reviews, err := plane.AuditEvents(func(e *auditv1.Event) bool {
				return e.ObjectRef != nil && e.ObjectRef.Resource == "selfsubjectaccessreviews" && e.User.Username == person
			})
			require.NoError(t, err)
			require.NotEmpty(t, reviews, "where the hub writes, the person is in the review")
			require.Contains(t, f.log.String(), `"action":"CreateJoinToken","actor":"`+person+`"`)
			require.NotContains(t, f.log.String(), token, "T73: the person's token is in no log")

			_, err = f.Works.ListWorks(t.Context(), &adminv1.ListWorksRequest{})
			requireReason(t, err, codes.Unauthenticated, reason.Unauthenticated)
			_, err = f.Works.ListWorks(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token+"x"), &adminv1.ListWorksRequest{})
			requireReason(t, err, codes.Unauthenticated, reason.Unauthenticated)
			require.NotContains(t, err.Error(), token, "T73: nor in an error")
		})
	}
}
