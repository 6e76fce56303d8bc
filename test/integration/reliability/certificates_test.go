// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/house"
)

// shortLived makes the hub issue certificates that live for so long.
func shortLived(life time.Duration) []string {
	return []string{"--min-certificate-lifetime=1s", "--certificate-lifetime=" + life.String()}
}

// condition of a ManagedCluster; an empty one while there is none.
func (w *world) condition(ctx context.Context, cluster, kind string) (metav1.Condition, error) {
	got, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, cluster, metav1.GetOptions{})
	if err != nil {
		return metav1.Condition{}, err
	}
	if found := meta.FindStatusCondition(got.Status.Conditions, kind); found != nil {
		return *found, nil
	}
	return metav1.Condition{}, nil
}

// readiness is what an agent's /readyz?verbose says, and /livez's code.
func readiness(ctx context.Context, agent *house.Agent) (text string, live int, err error) {
	get := func(path string) (string, int, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+agent.HTTPAddress+path, http.NoBody)
		if err != nil {
			return "", 0, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", 0, err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		return string(text), response.StatusCode, err
	}
	if text, _, err = get("/readyz?verbose"); err != nil {
		return "", 0, err
	}
	_, live, err = get("/livez")
	return text, live, err
}

// TestT40_certificates_of_seconds lets an agent live on certificates of seconds and
// a lease of one: it renews again and again, without a restart and without a gap
// (scaled down: one agent, some lives). A renewal has a third of a life, which a busy
// machine needs longer ones for.
func TestT40_certificates_of_seconds(t *testing.T) {
	t.Parallel()
	life, lives := house.Scaled(20*time.Second, 6*time.Second), house.Scaled(2, 4)
	w := newWorld(t, nil, shortLived(life)...)
	agent := w.join("t40")
	_, err := w.clusters.ClusterV1().ManagedClusters().Patch(t.Context(), "t40", types.MergePatchType, []byte(`{"spec":{"leaseDurationSeconds":1}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	pid, until := agent.PID(), time.Now().Add(time.Duration(lives)*life)
	var gap time.Duration
	lost, messages := time.Time{}, map[string]bool{}
	w.until("some lives of certificates to pass", func(ctx context.Context) (bool, error) {
		connected, err := agent.Metric(ctx, "fairlead_agent_connected")
		switch {
		case err != nil:
			return false, err
		case connected > 0:
			lost = time.Time{}
		case lost.IsZero():
			lost = time.Now()
		default:
			gap = max(gap, time.Since(lost))
		}
		rotated, err := w.condition(ctx, "t40", "ClusterCertificateRotated")
		messages[rotated.Message] = true
		return time.Now().After(until), err
	})
	require.Equal(t, pid, agent.PID())
	require.True(t, agent.Alive())
	require.Less(t, gap, house.Scaled(10*time.Second, 2*time.Second))
	t.Run("RA-12_RA-13_renewed_at_two_thirds_of_life_without_a_restart", func(t *testing.T) {
		require.GreaterOrEqual(t, len(messages), lives, "%v", messages)
	})
	t.Run("RA-14_the_condition_follows", func(t *testing.T) {
		rotated, err := w.condition(t.Context(), "t40", "ClusterCertificateRotated")
		require.NoError(t, err)
		require.Equal(t, metav1.ConditionTrue, rotated.Status)
		require.Equal(t, "ClientCertificateUpdated", rotated.Reason)
	})
	t.Run("RA-07_RA-08_the_request_as_people_see_it", func(t *testing.T) { w.requestsAre(t, "t40", life) })
	cloned, err := w.condition(t.Context(), "t40", "CertificateCloned")
	require.NoError(t, err)
	require.Empty(t, cloned, "no renewal looks like a clone")
	available, err := w.condition(t.Context(), "t40", clusterv1.ManagedClusterConditionAvailable)
	require.NoError(t, err)
	require.Equal(t, metav1.ConditionTrue, available.Status, "with a lease of a second")
	t.Logf("%d certificates, longest gap %s", len(messages), gap.Round(time.Millisecond))
}

// requestsAre checks the CSR objects of a cluster: the hub makes them.
func (w *world) requestsAre(t *testing.T, cluster string, life time.Duration) {
	t.Helper()
	list, err := w.hubKube.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{LabelSelector: identity.ClusterNameLabel + "=" + cluster})
	require.NoError(t, err)
	require.NotEmpty(t, list.Items)
	for _, csr := range list.Items {
		require.True(t, strings.HasPrefix(csr.Name, cluster+"-"))
		require.Equal(t, identity.SignerName, csr.Spec.SignerName)
		require.Equal(t, []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}, csr.Spec.Usages)
		require.Nil(t, csr.Spec.ExpirationSeconds, "the hub decides how long certificates live")
		der, err := pki.DecodeCSR(csr.Spec.Request)
		require.NoError(t, err)
		request, id, err := pki.ParseCSR(der)
		require.NoError(t, err)
		require.Equal(t, cluster, id.Cluster)
		require.ElementsMatch(t, identity.Subject(cluster, id.Name).Organization, request.Subject.Organization)
		if certs, err := pki.ParseCertificates(csr.Status.Certificate); err == nil {
			require.Equal(t, life, certs[0].NotAfter.Sub(certs[0].NotBefore.Add(pki.Backdate)))
		}
	}
}

// TestT80_away_for_longer_than_the_certificate_lives stops an agent until its
// certificate is over: both ends say Expired and what to do, works stay as they
// are, and a re-enroll token brings it back without applying anything again.
func TestT80_away_for_longer_than_the_certificate_lives(t *testing.T) {
	t.Parallel()
	const life = 12 * time.Second
	w := newWorld(t, nil, shortLived(life)...)
	agent := w.join("t80")
	for _, name := range names("t80", 3) {
		w.create("t80", name, "1")
		w.settled("t80", name, "1")
	}
	mark := w.journal.Mark()
	agent.Kill()
	const command = "fairlead token create t80 --re-enroll"
	w.until("the hub to say that the certificate expired", func(ctx context.Context) (bool, error) {
		rotated, err := w.condition(ctx, "t80", "ClusterCertificateRotated")
		return rotated.Reason == "ClientCertificateExpired" && strings.Contains(rotated.Message, command), fmt.Errorf("%+v: %w", rotated, err)
	})
	out, err := w.hub.CLI(t.Context(), "get", "enrollments", "t80", "-o", "wide")
	require.NoError(t, err)
	require.True(t, containsAll(out, "Expired", command), out)

	require.NoError(t, agent.Launch())
	w.logged(agent.Process, reason.CertificateExpired)
	t.Run("RA-19_readiness_says_it_and_liveness_does_not_restart_the_agent", func(t *testing.T) {
		w.until("the agent to say what is wrong", func(ctx context.Context) (bool, error) {
			text, live, err := readiness(ctx, agent)
			return containsAll(text, reason.CertificateExpired, "--re-enroll") && live == http.StatusOK, fmt.Errorf("%d %s: %w", live, text, err)
		})
	})
	require.Empty(t, w.journal.Since(mark, ""), "what was applied stays, and is not applied again")
	agent.Kill()

	join, err := w.hub.CLI(t.Context(), "token", "create", "t80", "--re-enroll", "--auto-accept")
	require.NoError(t, err)
	require.NoError(t, agent.LaunchWith(strings.TrimSpace(join)))
	w.available("t80")
	w.update("t80", "t80-0", "2")
	w.settled("t80", "t80-0", "2")
	entries := w.journal.Since(mark, "")
	require.Len(t, entries, 1, "only what was changed since: %+v", entries)
	rotated, err := w.condition(t.Context(), "t80", "ClusterCertificateRotated")
	require.NoError(t, err)
	require.Equal(t, metav1.ConditionTrue, rotated.Status, rotated.Message)
}
