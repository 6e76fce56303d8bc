// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server"
)

// debugger is the debug server, and who asks it.
type debugger struct {
	*scene
	url string
}

func newDebugger(t *testing.T) *debugger {
	t.Helper()
	s := newScene(t)
	web := httptest.NewServer(server.DebugPlacements(s.kube, s.plane.RESTConfig(), slog.New(slog.DiscardHandler)))
	t.Cleanup(web.Close)
	return &debugger{scene: s, url: web.URL + "/debug/placements/"}
}

// token is of a ServiceAccount that may do that to placements here.
func (d *debugger) token(t *testing.T, name string, verbs ...string) string {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: d.namespace, Name: name}
	d.create(t, &corev1.ServiceAccount{ObjectMeta: meta})
	if len(verbs) > 0 {
		d.create(t, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{clusterv1beta1.GroupName}, Resources: []string{"placements"}, Verbs: verbs}}})
		d.create(t, &rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: d.namespace}},
		})
	}
	config, err := d.plane.TokenConfig(t.Context(), d.namespace, name)
	require.NoError(t, err)
	return config.BearerToken
}

func (d *debugger) ask(t *testing.T, method, path, token, body string) (status int, answer map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &answer), string(text))
	return response.StatusCode, answer
}

func TestPlacement_debug(t *testing.T) {
	d := newDebugger(t)
	all := d.clusters(t, 3)
	d.taint(t, all[2], taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect})
	p := d.place(t, best(1, builtIn("Steady", 2)))
	d.await(t, p, all[0])
	reader, writer, nobody := d.token(t, "reader", "get"), d.token(t, "writer", "create"), d.token(t, "nobody")
	path := d.namespace + "/" + p.Name

	t.Run("PL-57_PL-60_how_it_was_chosen", func(t *testing.T) {
		status, answer := d.ask(t, http.MethodGet, path, reader, "")
		require.Equal(t, http.StatusOK, status, answer)
		require.NotNil(t, answer["placement"])
		delete(answer, "placement")
		text, err := json.Marshal(answer)
		require.NoError(t, err)
		require.JSONEq(t, strings.NewReplacer(`"A"`, `"`+all[0]+`"`, `"B"`, `"`+all[1]+`"`, `"C"`, `"`+all[2]+`"`).Replace(`{
			"filteredPipelineResults": [{"name": "Predicate", "filteredClusters": ["A", "B", "C"]}, {"name": "Predicate,TaintToleration", "filteredClusters": ["A", "B"]}],
			"prioritizeResults": [{"name": "Steady", "weight": 2, "scores": {"A": 100, "B": 0}}],
			"aggregatedScores": [{"clusterName": "A", "score": 200}, {"clusterName": "B", "score": 0}]
		}`), string(text))
	})
	t.Run("PL-58_simulate", func(t *testing.T) {
		body := `{"metadata": {"namespace": "` + d.namespace + `", "name": "not-stored"}, "spec": {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["` +
			`managedCluster.metadata.name == '` + all[1] + `'"]}}}]}}`
		status, answer := d.ask(t, http.MethodPost, "", writer, body)
		require.Equal(t, http.StatusOK, status, answer)
		scores, ok := answer["aggregatedScores"].([]any)
		require.True(t, ok)
		require.Len(t, scores, 1)
		stored := &clusterv1beta1.Placement{}
		require.True(t, apierrors.IsNotFound(d.kube.Get(t.Context(), client.ObjectKey{Namespace: d.namespace, Name: "not-stored"}, stored)))
		status, answer = d.ask(t, http.MethodPost, "", writer, strings.Replace(body, "managedCluster.metadata", "nonsense", 1))
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, answer["error"], "nonsense")
	})
	t.Run("PL-59_who_may", func(t *testing.T) {
		good := `{"metadata": {"namespace": "` + d.namespace + `", "name": "x"}}`
		for name, tc := range map[string]struct {
			method, path, token, body string
			status                    int
			text                      string
		}{
			"no token":         {http.MethodGet, path, "", "", 401, "no bearer token"},
			"unknown token":    {http.MethodGet, path, "nonsense", "", 401, "does not know"},
			"may not get":      {http.MethodGet, path, nobody, "", 403, "does not have permission to get placements"},
			"only create":      {http.MethodGet, path, writer, "", 403, "does not have permission to get placements"},
			"another place":    {http.MethodGet, "default/x", reader, "", 403, "does not have permission to get placements"},
			"may not create":   {http.MethodPost, "", reader, good, 403, "does not have permission to create placements"},
			"no placement":     {http.MethodGet, d.namespace + "/none", reader, "", 404, "no placement"},
			"no path":          {http.MethodGet, d.namespace, reader, "", 404, "no such path"},
			"another method":   {http.MethodDelete, path, reader, "", 405, "not allowed"},
			"bad body":         {http.MethodPost, "", writer, "{", 400, "no Placement"},
			"without a name":   {http.MethodPost, "", writer, `{"metadata": {"namespace": "default"}}`, 400, "no Placement"},
			"more than 1 MiB":  {http.MethodPost, "", writer, strings.Repeat(" ", 1<<20) + good, 400, "more than"},
			"not to post here": {http.MethodPost, path, writer, good, 404, "no such path"},
		} {
			t.Run(name, func(t *testing.T) {
				status, answer := d.ask(t, tc.method, tc.path, tc.token, tc.body)
				require.Equal(t, tc.status, status, answer)
				require.Contains(t, answer["error"], tc.text)
			})
		}
	})
	t.Run("PL-61_OB-03_histograms", func(t *testing.T) {
		d.await(t, d.place(t, matching(byCEL("has(managedCluster.metadata.name)"))), all[:2]...)
		d.score(t, all[1], "s", time.Time{}, map[string]int32{"x": 50})
		d.await(t, d.place(t, best(1, addOn("s", "x", 1))), all[1])
		const name = "name=placement_scheduling"
		for _, family := range []string{"scheduling_scheduling_duration_seconds", "scheduling_bind_duration_seconds", "scheduling_cel_runtime_duration_seconds"} {
			require.Equal(t, []string{name}, d.series(t, family), family)
			require.Positive(t, d.count(t, family), family)
		}
		plugins := d.series(t, "scheduling_plugin_duration_seconds")
		require.Subset(t, plugins, []string{
			name + ",plugin_name=Predicate,plugin_type=filter", name + ",plugin_name=TaintToleration,plugin_type=filter",
			name + ",plugin_name=Steady,plugin_type=prioritizer", name + ",plugin_name=AddOn,plugin_type=prioritizer",
		})
		for _, labels := range plugins { // no name of a user among them
			require.Regexp(t, "^"+name+",plugin_name=[A-Za-z]+,plugin_type=(filter|prioritizer)$", labels)
		}
	})
}

// series are the labels of all series of a metric, each sorted by name.
func (d *debugger) series(t *testing.T, name string) (series []string) {
	t.Helper()
	families, err := d.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if family.GetName() == name {
				series = append(series, strings.Join(labels, ","))
			}
		}
	}
	return series
}
