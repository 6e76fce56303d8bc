// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
)

// submitted is the call of docs/schedulers.md that is taken, and its answer.
var submitted = regexp.MustCompile("(?s)decisions:\n\n```\n\\$ grpcurl -d '(\\{[^']*\\})' HUB:8444 fairlead.scheduler.v1.SchedulerService/SubmitDecision\n(\\{.*?\n\\})\n```")

// transcript sends what the page sends, with names and term of now, and gets what
// the page says.
func (r *region) transcript(t *testing.T, d *dispatcher) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/schedulers.md")
	require.NoError(t, err)
	call := submitted.FindStringSubmatch(string(page))
	require.NotNil(t, call, "the page shows no call that is taken")
	term := regexp.MustCompile(`"term":\d+`).ReplaceAllString(call[1], fmt.Sprintf(`"term":%d`, d.term))
	request := &schedulerv1.SubmitDecisionRequest{}
	require.NoError(t, protojson.Unmarshal([]byte(strings.ReplaceAll(term, "region-1", r.name)), request))
	answer, err := d.api.SubmitDecision(d.ctx, request)
	require.NoError(t, err)
	raw, err := protojson.Marshal(answer)
	require.NoError(t, err)
	require.JSONEq(t, call[2], string(raw))
	require.Equal(t, r.clusters[:1], r.decided("web"))
}
