// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// TestT74_labels: a million labels are too long to be looked at.
func TestT74_labels(t *testing.T) {
	var labels strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&labels, `"l%d":"",`, i)
	}
	request := &adminv1.ApplyWorkRequest{ClusterName: "c", Name: "w", WorkJson: `{"metadata":{"labels":{` + labels.String() + `"l":""}},` +
		`"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}]}}}`}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := parseWork(request, wire.DefaultManifestLimit)
	runtime.ReadMemStats(&after)
	require.Equal(t, reason.ObjectTooLarge, rpcerr.ReasonOf(err), "%v", err)
	require.ErrorContains(t, err, strconv.Itoa(len(request.GetWorkJson())))
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}
