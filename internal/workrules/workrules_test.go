// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package workrules_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/internal/workrules"
)

const limit = 512_000

func work(manifests ...string) []byte {
	return []byte(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w"},"spec":{"workload":{"manifests":[` + strings.Join(manifests, ",") + `]}}}`)
}

func configMap(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"},"data":{"k":%q}}`, name, value)
}

// check is what the webhook and ApplyWork do with a work.
func check(raw []byte) (int, error) {
	var w workrules.Work
	if err := workrules.Decode(raw, &w); err != nil {
		return 0, err
	}
	return w.Spec.Check("spec", limit)
}

func sized(size int) string { return configMap("a", strings.Repeat("x", size-len(configMap("a", "")))) }

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		raw    []byte
		why    string // empty: it is taken
		says   []string
	}{
		"taken":                   {"two of one name in two namespaces", work(configMap("a", ""), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`), "", nil},
		"another kind":            {"of the same name", work(configMap("a", ""), `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","namespace":"default"}}`), "", nil},
		"WH-14 none":              {"nothing to do", work(), reason.InvalidArgument, []string{"spec.workload.manifests: Workload manifests should not be empty"}},
		"WH-14 no spec":           {"likewise", []byte(`{}`), reason.InvalidArgument, []string{"should not be empty"}},
		"WH-15 no name":           {"which, where, what to do", work(configMap("a", ""), `{"apiVersion":"v1","kind":"Pod"}`), reason.Undecodable, []string{"spec.workload.manifests[1]", "metadata.name", "give the Pod a name"}},
		"WH-15 generateName":      {"each apply would make another", work(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"x-"}}`), reason.Undecodable, []string{"manifests[0]", `"x-"`, "metadata.name"}},
		"WH-15 both names":        {"generateName is of no use beside a name", work(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","generateName":"x-"}}`), reason.Undecodable, []string{"generateName"}},
		"WH-15 text":              {"no object", work(`"text"`), reason.Undecodable, []string{"manifests[0]", `begins with "\"text\""`}},
		"WH-15 null":              {"no object either", work(`null`), reason.Undecodable, []string{"manifests[0]", "null"}},
		"WH-15 list":              {"nor is that", work(`[{}]`), reason.Undecodable, []string{"manifests[0]"}},
		"WH-15 no apiVersion":     {"cannot be applied", work(`{"kind":"Pod","metadata":{"name":"x"}}`), reason.Undecodable, []string{"apiVersion"}},
		"WH-15 no kind":           {"nor can that", work(`{"apiVersion":"v1","metadata":{"name":"x"}}`), reason.Undecodable, []string{"kind is missing"}},
		"WH-15 Kind":              {"field names have a case", work(`{"apiVersion":"v1","Kind":"Pod","metadata":{"name":"x"}}`), reason.Undecodable, []string{"kind is missing"}},
		"WH-15 name is a number":  {"without Go types", work(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":7}}`), reason.Undecodable, []string{"metadata.name is a JSON number"}},
		"WH-15 duplicate":         {"both are named", work(configMap("a", ""), configMap("b", ""), configMap("a", "2")), reason.InvalidArgument, []string{"manifests[2]", `v1 ConfigMap "a" in namespace "default"`, "manifests[0]"}},
		"WH-16 at the limit":      {"to the byte", work(sized(limit-600), strings.Replace(sized(600), `"a"`, `"b"`, 1)), "", nil},
		"WH-16 over it":           {"to the byte", work(sized(limit-600), strings.Replace(sized(601), `"a"`, `"b"`, 1)), reason.ObjectTooLarge, []string{"512001 bytes", "512000", "split"}},
		"WH-16 white space":       {"an apiserver keeps none", work(strings.Replace(sized(limit), `"data"`, "\n\t \"data\" ", 1)), "", nil},
		"WH-16 white space, text": {"but within strings", work(strings.Replace(sized(limit), "x", `\" `, 1)), reason.ObjectTooLarge, []string{"512002"}},
		"manifests are an object": {"and not a list", []byte(`{"spec":{"workload":{"manifests":{}}}}`), reason.Undecodable, []string{"no list of manifests"}},
		"cut":                     {"no JSON", []byte(`{"spec":`), reason.Undecodable, []string{"not JSON"}},
		"text":                    {"no work", []byte(`"work"`), reason.Undecodable, []string{"JSON string"}},
	} {
		t.Run(name, func(t *testing.T) {
			size, err := check(tc.raw)
			if tc.why == "" {
				require.NoError(t, err, tc.reason)
				require.Positive(t, size)
				return
			}
			var rule *workrules.Error
			require.ErrorAs(t, err, &rule, tc.reason)
			require.Equal(t, tc.why, rule.Reason, tc.reason)
			for _, part := range tc.says {
				require.ErrorContains(t, err, part, tc.reason)
			}
			require.NotContains(t, err.Error(), "workrules", "no Go types")
		})
	}
}

// TestSize: what is counted is what the apiserver's own encoding has.
func TestSize(t *testing.T) {
	raw := []byte("{\"spec\": {\"workload\": {\"manifests\": [ {\"a\" : \"b \\\\\" , \"c\\\"\":\t[1, 2 ]},\n{} ]}}}")
	var w workrules.Work
	require.NoError(t, workrules.Decode(raw, &w))
	var plain struct {
		Spec struct {
			Workload struct {
				Manifests []any `json:"manifests"`
			} `json:"workload"`
		} `json:"spec"`
	}
	require.NoError(t, json.Unmarshal(raw, &plain))
	want := 0
	for _, m := range plain.Spec.Workload.Manifests {
		compact, err := json.Marshal(m)
		require.NoError(t, err)
		want += len(compact)
	}
	require.Equal(t, want, w.Spec.Size())
}

func TestReplicaSet(t *testing.T) {
	var set workrules.ReplicaSet
	require.NoError(t, workrules.Decode([]byte(`{"spec":{"manifestWorkTemplate":{"workload":{"manifests":[{}]}}}}`), &set))
	_, err := set.Spec.Template.Check("spec.manifestWorkTemplate", limit)
	require.ErrorContains(t, err, "spec.manifestWorkTemplate.workload.manifests[0]: apiVersion")
}

// TestT74_hostile_works are refused at little cost, whatever they are made of.
func TestT74_hostile_works(t *testing.T) {
	labels := make([]string, 1_000_000)
	for i := range labels {
		labels[i] = fmt.Sprintf(`"l%d":""`, i)
	}
	for name, raw := range map[string][]byte{
		"nested":      work(strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)),
		"nested list": work(strings.Repeat(`[`, 100_000) + strings.Repeat("]", 100_000)),
		"manifests":   work(strings.Repeat("{},", 100_000) + "{}"),
		"names":       work(strings.Repeat(`{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}},`, 30_000) + "{}"),
		"labels":      []byte(`{"metadata":{"labels":{` + strings.Join(labels[:100_000], ",") + `}}}`),
		"alias bomb":  []byte("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			_, err := check(raw)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "bytes allocated, freed or not")
			t.Logf("%d bytes refused in %v for %d KiB: %.120v", len(raw), took, (after.TotalAlloc-before.TotalAlloc)>>10, err)
		})
	}
}
