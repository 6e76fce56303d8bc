// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// bomb is a YAML document that is a GiB when its aliases are written out.
const bomb = `a: &a ["lol","lol","lol","lol","lol","lol","lol","lol","lol"]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]
d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]
e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]
f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]
g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]
h: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]
i: &i [*h,*h,*h,*h,*h,*h,*h,*h,*h]
`

// hostile is a work that is made to cost much, and how it is refused.
type hostile struct {
	work string
	code codes.Code // of ApplyWork
	why  string     // the reason, where a rule of works refuses it
	// apiserver says that only ApplyWork refuses it by itself: of what comes by the
	// apiserver, that one has its own limits, and has read it before the hub does.
	apiserver bool
}

// withMetadata is a work of one good manifest.
func withMetadata(metadata, manifests string) string {
	return `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w"` + metadata + `},"spec":{"workload":{"manifests":[` + manifests + `]}}}`
}

// many repeats an element with its number in it, separated by commas.
func many(n int, format string) string {
	var out strings.Builder
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

// hostiles are the shapes of T74, and what is left of each that a limit on the
// message would refuse anyway.
func hostiles() map[string]hostile {
	const deep = 100_000
	nested := strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep)
	good := configMap("a", "")
	return map[string]hostile{
		"nested 10^5 deep":         {work: withMetadata("", nested), code: codes.InvalidArgument, why: reason.Undecodable},
		"lists nested 10^5 deep":   {work: withMetadata("", strings.Repeat("[", deep)+strings.Repeat("]", deep)), code: codes.InvalidArgument, why: reason.Undecodable},
		"only brackets":            {work: strings.Repeat(`[`, 1<<20), code: codes.InvalidArgument, why: reason.Undecodable},
		"100 000 manifests":        {work: withMetadata("", strings.Repeat("{},", deep-1)+"{}"), code: codes.InvalidArgument, why: reason.Undecodable},
		"100 000 good manifests":   {work: withMetadata("", many(deep, `{"apiVersion":"v1","kind":"A","metadata":{"name":"a%d"}}`)), code: codes.ResourceExhausted},
		"25 000 good manifests":    {work: withMetadata("", many(25_000, `{"apiVersion":"v1","kind":"A","metadata":{"name":"a%d"}}`)), code: codes.InvalidArgument, why: reason.ObjectTooLarge},
		"a million numbers":        {work: withMetadata("", strings.Repeat("0,", 700_000)+"0"), code: codes.InvalidArgument, why: reason.ObjectTooLarge},
		"10^6 labels":              {work: withMetadata(`,"labels":{`+many(1_000_000, `"l%d":""`)+`}`, good), code: codes.ResourceExhausted},
		"10^5 labels":              {work: withMetadata(`,"labels":{`+many(deep, `"l%d":""`)+`}`, good), code: codes.InvalidArgument, why: reason.ObjectTooLarge, apiserver: true},
		"10^5 finalizers":          {work: withMetadata(`,"finalizers":[`+many(deep, `"f%d"`)+`]`, good), code: codes.InvalidArgument, why: reason.ObjectTooLarge, apiserver: true},
		"a YAML alias bomb":        {work: bomb, code: codes.InvalidArgument, why: reason.Undecodable},
		"one inside of a manifest": {work: withMetadata("", bomb), code: codes.InvalidArgument, why: reason.Undecodable},
	}
}

// spent is what the hub's process has used up.
type spent struct {
	cpu   time.Duration
	bytes float64 // allocated, freed or not
}

func (w *world) spent(t *testing.T) spent {
	t.Helper()
	cpu, err := w.hub.Metric(t.Context(), "process_cpu_seconds_total")
	require.NoError(t, err)
	allocated, err := w.hub.Metric(t.Context(), "go_memstats_alloc_bytes_total")
	require.NoError(t, err)
	require.Positive(t, allocated)
	return spent{time.Duration(cpu * float64(time.Second)), allocated}
}

// cost is what one of many calls costs the hub. Of several measurements the least
// counts: a hub has other things to do, too.
func (w *world) cost(t *testing.T, call func()) spent {
	t.Helper()
	const calls, times = 3, 2
	least := spent{time.Hour, 1 << 40}
	for range times {
		before := w.spent(t)
		for range calls {
			call()
		}
		after := w.spent(t)
		least = spent{min(least.cpu, (after.cpu-before.cpu)/calls), min(least.bytes, (after.bytes-before.bytes)/calls)}
	}
	return least
}

const (
	// most is what a request may make the hub allocate beyond the copies of its own
	// bytes: of its frames, of the message, and of the work in it.
	most   = 16 << 20
	copies = 3
	// A request may take as many times the CPU that reading as much JSON takes. It
	// takes 2 to 5; the rest is for machines that are busy.
	slowness = 25
)

// cheap checks what a request of so many bytes costs the hub. What a small one
// costs, which is refused as well, says how busy the machine is.
func (w *world) cheap(t *testing.T, size int, small spent, call func()) {
	t.Helper()
	reading := scan(size)
	got := w.cost(t, call)
	t.Logf("%d bytes refused for %v of CPU and %.0f KiB; reading them takes %v", size, got.cpu, got.bytes/1024, reading)
	require.Less(t, got.bytes, float64(most+copies*size), "bytes allocated, freed or not")
	require.Less(t, got.cpu, 10*(small.cpu+10*time.Millisecond)+slowness*reading, "CPU time")
}

// scan is how long it takes at best to read so much JSON here and now.
func scan(size int) time.Duration {
	raw := []byte(`["` + strings.Repeat(`abcdefg","`, size/10) + `"]`)
	least := time.Hour
	for range 5 {
		began := time.Now()
		if !json.Valid(raw) {
			panic("it is JSON")
		}
		least = min(least, time.Since(began))
	}
	return least
}

// hostile sends works that are made to cost much to ApplyWork of the hub as it
// is deployed, as somebody who may write works, and then as reviews to the port
// of the webhooks, as anybody may.
func (w *world) hostile(t *testing.T) {
	desk, ctx := w.author(t)
	apply := func(work string) error {
		_, err := desk.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: "default", Name: "w", WorkJson: work})
		return err
	}
	small := w.cost(t, func() { require.Error(t, apply("{")) })
	t.Logf("a small request costs %v of CPU and %.0f KiB", small.cpu, small.bytes/1024)
	for name, shape := range hostiles() {
		t.Run("ApplyWork of "+name, func(t *testing.T) {
			w.cheap(t, len(shape.work), small, func() {
				err := apply(shape.work)
				require.Equal(t, shape.code, status.Code(err), "%v", err)
				if shape.why != "" {
					require.Equal(t, shape.why, rpcerr.ReasonOf(err), "%v", err)
				}
			})
		})
	}
	const review = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE","namespace":"default","name":"w","object":%s}}`
	bodies := map[string]string{
		"a bomb":           bomb,
		"only brackets":    strings.Repeat("[", 1<<20),
		"a list in YAML":   "a: [" + strings.Repeat("b,", 1<<20) + "c]",
		"lines of YAML":    strings.Repeat("- a\n", 1<<20),
		"a bomb in braces": "{" + strings.ReplaceAll(bomb, "\n", ",") + "}",
	}
	for name, shape := range hostiles() {
		bodies["a review of "+name] = fmt.Sprintf(review, shape.work)
		if shape.apiserver {
			delete(bodies, "a review of "+name)
		}
	}
	for name, body := range bodies {
		for _, path := range []string{"/validate/manifestworks", "/mutate/manifestworks"} {
			t.Run(path+" gets "+name, func(t *testing.T) {
				w.cheap(t, len(body), small, func() { w.review(t, path, body) })
			})
		}
	}
}

// author is somebody who may write works, at the admin listener.
func (w *world) author(t *testing.T) (adminv1.WorkAdminServiceClient, context.Context) {
	t.Helper()
	name := w.plane.Unique("author")
	require.NoError(t, w.kube.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}))
	w.allow("default", "system:serviceaccounts:default", name, rbacv1.PolicyRule{APIGroups: []string{"work.open-cluster-management.io"}, Resources: []string{"manifestworks"}, Verbs: []string{"*"}})
	config, err := w.plane.TokenConfig(t.Context(), "default", name)
	require.NoError(t, err)
	ca, err := w.hub.CA(t.Context())
	require.NoError(t, err)
	trusted, err := credentials.NewClientTLSFromFile(ca, "")
	require.NoError(t, err)
	conn, err := grpc.NewClient(w.hub.AdminAddress, grpc.WithTransportCredentials(trusted))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return adminv1.NewWorkAdminServiceClient(conn), metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+config.BearerToken)
}

// review posts a body to a webhook, which must not allow what is in it: the one
// that validates says no, and the other one says nothing about what it cannot read.
func (w *world) review(t *testing.T, path, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.webhook+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil && (len(body) > 7<<20 || body[0] != '{') {
		return // the hub hangs up in the middle of what it does not want
	}
	require.NoError(t, err)
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	var said struct {
		Response *struct {
			Allowed bool `json:"allowed"`
		} `json:"response"`
	}
	if json.Unmarshal(raw, &said) == nil && said.Response != nil && strings.HasPrefix(path, "/validate") {
		require.False(t, said.Response.Allowed, "%.300s", raw)
	}
}
