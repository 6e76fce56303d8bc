// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package person

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

func TestError(t *testing.T) {
	kind := schema.GroupResource{Group: "cluster.open-cluster-management.io", Resource: "managedclusters"}
	cases := map[string]struct {
		reason string
		err    error
		code   codes.Code
		why    string
	}{
		"no such object": {"a name that nobody has", apierrors.NewNotFound(kind, "a"), codes.NotFound, reason.NotFound},
		"no such kind":   {"its CRD comes later, and no name is wrong", apierrors.NewGenericServerResponse(http.StatusNotFound, "list", kind, "", "404 page not found", 0, true), codes.Unavailable, reason.HubStarting},
		"forbidden":      {"in the apiserver's own words", apierrors.NewForbidden(kind, "a", errors.New("no")), codes.PermissionDenied, reason.PermissionDenied},
		"no answer":      {"the network said it", errors.New("connection refused"), codes.Unavailable, reason.ApiserverLost},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := rpcerr.From(Error(tc.err, "listing")).GRPCStatus().Err()
			require.Equal(t, tc.code, status.Code(err), tc.reason)
			require.Equal(t, tc.why, rpcerr.ReasonOf(err), tc.reason)
		})
	}
}
