// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/featuregate"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	ocmfeature "open-cluster-management.io/api/feature"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/server/controller/cleanup"
	"fairlead.dev/fairlead/server/controller/clusterprofile"
	"fairlead.dev/fairlead/server/controller/clusterset"
	"fairlead.dev/fairlead/server/controller/gc"
	"fairlead.dev/fairlead/server/controller/lease"
	"fairlead.dev/fairlead/server/controller/placement"
	"fairlead.dev/fairlead/server/controller/registration"
	"fairlead.dev/fairlead/server/controller/replicaset"
	"fairlead.dev/fairlead/server/controller/sigdecision"
	"fairlead.dev/fairlead/server/controller/taint"
	"fairlead.dev/fairlead/server/controller/work"
)

// Deps is what the controllers are given besides the manager.
type Deps struct {
	// HubNamespace has the hub's own objects. Default identity.HubNamespace.
	HubNamespace string
	// Signer signs agents' certificates; nil leaves that to an external signer.
	Signer registration.Signer
	// CleanUp is gate ResourceCleanup: whether what is in the namespace of a
	// cluster that leaves is deleted; CleanUpResources are deleted in that order,
	// default cleanup.DefaultResources.
	CleanUp          bool
	CleanUpResources []schema.GroupVersionResource
	// ClientCAs are the authorities whose certificates open a session.
	ClientCAs func() *x509.CertPool
	// Labels are added to namespaces and RBAC objects made for clusters.
	Labels map[string]string
	// Works tells the controller "workttl" of works.
	Works work.Works
	// ReplicaSets tells the controller "replicaset" which works replica sets have.
	// ReplicaSetSettle is for how long it gathers changes of works; default
	// replicaset.DefaultSettle.
	ReplicaSets      replicaset.Works
	ReplicaSetSettle time.Duration
	// ClusterLeaseRefresh is how often managed-cluster-lease of a living cluster
	// is renewed. Default lease.DefaultRefresh.
	ClusterLeaseRefresh time.Duration
	// PendingTTL and UnusedTTL end enrollments that nobody decides on, or whose
	// first certificate nobody uses. Defaults 1 h and 24 h.
	PendingTTL, UnusedTTL time.Duration
	// Registerer takes the controllers' own metrics; nil: nobody does.
	Registerer prometheus.Registerer
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log is where the controllers log. Default slog.Default().
	Log *slog.Logger
}

// Controller is an entry of the list of controllers.
type Controller struct {
	// Name is what --controllers calls it.
	Name string
	// Gate, if there is one, has to be on for it to run.
	Gate featuregate.Feature
	// Needs are the kinds, from CRDs, without which it cannot start.
	Needs []schema.GroupVersionKind
	// Setup adds it to the manager. All of Needs are served by then.
	Setup func(ctx context.Context, mgr manager.Manager, deps Deps) error
}

// All returns every controller of the hub, in the order in which they start.
func All() []Controller {
	managedCluster := schema.GroupVersion(clusterv1.GroupVersion).WithKind("ManagedCluster")
	enrollment := v1alpha1.GroupVersion().WithKind("ClusterEnrollment")
	manifestWork := schema.GroupVersion(workv1.GroupVersion).WithKind("ManifestWork")
	set := schema.GroupVersion(clusterv1beta2.GroupVersion).WithKind("ManagedClusterSet")
	binding := schema.GroupVersion(clusterv1beta2.GroupVersion).WithKind("ManagedClusterSetBinding")
	return []Controller{
		{Name: "registration", Needs: []schema.GroupVersionKind{managedCluster}, Setup: setupRegistration},
		{Name: "enrollment", Needs: []schema.GroupVersionKind{managedCluster, enrollment}, Setup: setupEnrollment},
		{Name: "lease", Needs: []schema.GroupVersionKind{managedCluster}, Setup: setupLease},
		{Name: "taint", Needs: []schema.GroupVersionKind{managedCluster}, Setup: setupTaints},
		{Name: "cleanup", Needs: []schema.GroupVersionKind{managedCluster}, Setup: setupCleanup},
		{Name: "clusterset", Needs: []schema.GroupVersionKind{managedCluster, set}, Setup: setupClusterSets},
		{Name: "clustersetbinding", Needs: []schema.GroupVersionKind{set, binding}, Setup: setupBindings},
		{Name: "defaultclusterset", Gate: ocmfeature.DefaultClusterSet, Needs: []schema.GroupVersionKind{managedCluster, set}, Setup: setupDefaultSets},
		{Name: "managednamespaces", Needs: []schema.GroupVersionKind{managedCluster, set}, Setup: setupNamespaces},
		{
			Name: "clusterprofile", Gate: ocmfeature.ClusterProfile,
			Needs: []schema.GroupVersionKind{managedCluster, set, binding, inventoryv1alpha1.ClusterProfileSchemeGroupVersionKind}, Setup: setupProfiles,
		},
		{Name: "placement", Needs: append(placementKinds(), managedCluster, set, binding), Setup: setupPlacements},
		{
			Name: "sigplacementdecision", Gate: feature.SIGPlacementDecision,
			Needs: append(placementKinds(), inventoryv1alpha1.PlacementDecisionSchemeGroupVersionKind), Setup: setupSIGDecisions,
		},
		{Name: "workttl", Gate: ocmfeature.CleanUpCompletedManifestWork, Needs: []schema.GroupVersionKind{manifestWork}, Setup: setupWorkTTL},
		{
			Name: "replicaset", Gate: ocmfeature.ManifestWorkReplicaSet,
			Needs: []schema.GroupVersionKind{
				managedCluster, manifestWork, schema.GroupVersion(workv1alpha1.GroupVersion).WithKind("ManifestWorkReplicaSet"),
				schema.GroupVersion(clusterv1beta1.GroupVersion).WithKind("Placement"),
				schema.GroupVersion(clusterv1beta1.GroupVersion).WithKind("PlacementDecision"),
			},
			Setup: setupReplicaSets,
		},
		{Name: "gc", Needs: []schema.GroupVersionKind{managedCluster, enrollment}, Setup: setupGC},
	}
}

// placementKinds are what the scheduler reads and writes besides clusters and sets.
// Scores are not among them: it works without.
func placementKinds() []schema.GroupVersionKind {
	version := schema.GroupVersion(clusterv1beta1.GroupVersion)
	return []schema.GroupVersionKind{version.WithKind("Placement"), version.WithKind("PlacementDecision")}
}

// Gated leaves out the controllers whose gate is off.
func Gated(list []Controller, enabled func(featuregate.Feature) bool) []Controller {
	return slices.DeleteFunc(slices.Clone(list), func(c Controller) bool { return c.Gate != "" && !enabled(c.Gate) })
}

func setupRegistration(_ context.Context, mgr manager.Manager, deps Deps) error {
	return registration.SetupClusters(mgr, deps.registration())
}

func setupEnrollment(ctx context.Context, mgr manager.Manager, deps Deps) error {
	return registration.SetupEnrollments(ctx, mgr, deps.registration())
}

func setupCleanup(_ context.Context, mgr manager.Manager, deps Deps) error {
	return cleanup.Setup(mgr, cleanup.Config{Enabled: deps.CleanUp, Resources: deps.CleanUpResources, Clock: deps.Clock, Log: deps.Log})
}

func setupLease(_ context.Context, mgr manager.Manager, deps Deps) error {
	return lease.Setup(mgr, lease.Config{
		HubNamespace: deps.HubNamespace, Refresh: deps.ClusterLeaseRefresh, Clock: deps.Clock, Log: deps.Log,
	})
}

func setupTaints(_ context.Context, mgr manager.Manager, deps Deps) error {
	return taint.Setup(mgr, taint.Config{Clock: deps.Clock, Log: deps.Log})
}

func setupClusterSets(_ context.Context, mgr manager.Manager, deps Deps) error {
	return clusterset.SetupSets(mgr, deps.clusterset())
}

func setupBindings(ctx context.Context, mgr manager.Manager, deps Deps) error {
	return clusterset.SetupBindings(ctx, mgr, deps.clusterset())
}

func setupDefaultSets(_ context.Context, mgr manager.Manager, deps Deps) error {
	return clusterset.SetupDefaults(mgr, deps.clusterset())
}

func setupNamespaces(_ context.Context, mgr manager.Manager, deps Deps) error {
	return clusterset.SetupNamespaces(mgr, deps.clusterset())
}

func setupProfiles(_ context.Context, mgr manager.Manager, deps Deps) error {
	return clusterprofile.Setup(mgr, clusterprofile.Config{Log: deps.Log})
}

func setupPlacements(_ context.Context, mgr manager.Manager, deps Deps) error {
	return placement.Setup(mgr, placement.Config{Registerer: deps.Registerer, Clock: deps.Clock, Log: deps.Log})
}

func setupSIGDecisions(_ context.Context, mgr manager.Manager, deps Deps) error {
	return sigdecision.Setup(mgr, sigdecision.Config{Log: deps.Log})
}

func setupWorkTTL(_ context.Context, mgr manager.Manager, deps Deps) error {
	return work.SetupTTL(mgr, work.Config{Works: deps.Works, Clock: deps.Clock, Log: deps.Log})
}

func setupReplicaSets(_ context.Context, mgr manager.Manager, deps Deps) error {
	return replicaset.Setup(mgr, replicaset.Config{Works: deps.ReplicaSets, Settle: deps.ReplicaSetSettle, Clock: deps.Clock, Log: deps.Log})
}

func setupGC(_ context.Context, mgr manager.Manager, deps Deps) error {
	return gc.Setup(mgr, gc.Config{HubNamespace: deps.HubNamespace, Log: deps.Log})
}

func (d Deps) registration() registration.Config {
	return registration.Config{
		HubNamespace: d.HubNamespace, Labels: d.Labels, Signer: d.Signer, ClientCAs: d.ClientCAs,
		PendingTTL: d.PendingTTL, UnusedTTL: d.UnusedTTL, Clock: d.Clock, Log: d.Log,
	}
}

func (d Deps) clusterset() clusterset.Config {
	return clusterset.Config{Clock: d.Clock, Log: d.Log}
}

// Names lists the names of controllers.
func Names(list []Controller) []string {
	names := make([]string, 0, len(list))
	for _, c := range list {
		names = append(names, c.Name)
	}
	return names
}

// Select returns the controllers that a --controllers value asks for: names
// separated by commas, "*" for all, "-name" to leave one out. "" is none. The
// order of the result is that of All.
func Select(spec string) ([]Controller, error) {
	all := All()
	wanted, without := map[string]bool{}, map[string]bool{}
	var problems []error
	for item := range strings.SplitSeq(spec, ",") {
		item = strings.TrimSpace(item)
		name, minus := strings.CutPrefix(item, "-")
		switch {
		case item == "":
		case item == "*":
			for _, c := range all {
				wanted[c.Name] = true
			}
		case !slices.Contains(Names(all), name):
			problems = append(problems, fmt.Errorf("--controllers=%q: there is no controller %q; known are %s, %q for all and -name to leave one out",
				spec, name, strings.Join(Names(all), ", "), "*"))
		case minus:
			without[name] = true
		default:
			wanted[name] = true
		}
	}
	if len(problems) == 0 && len(wanted) == 0 && len(without) > 0 {
		problems = append(problems, fmt.Errorf("--controllers=%q only leaves controllers out; to run all others, say %q", spec, "*,"+spec))
	}
	return slices.DeleteFunc(all, func(c Controller) bool { return !wanted[c.Name] || without[c.Name] }), errors.Join(problems...)
}

// AddToScheme makes every kind known that a controller reads or writes.
func AddToScheme(scheme *runtime.Scheme) error {
	return errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), clusterv1alpha1.Install(scheme),
		clusterv1beta1.Install(scheme), clusterv1beta2.Install(scheme), workv1.Install(scheme), workv1alpha1.Install(scheme),
		inventoryv1alpha1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

// CacheOptions keeps out of the manager's cache what no controller looks at. A
// caller that needs more of one of these kinds widens its entry.
func CacheOptions(hubNamespace string) map[client.Object]cache.ByObject {
	if hubNamespace == "" {
		hubNamespace = identity.HubNamespace
	}
	options := registration.CacheOptions()
	maps.Copy(options, lease.CacheOptions(hubNamespace))
	return options
}
