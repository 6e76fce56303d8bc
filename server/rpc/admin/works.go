// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// fieldManager is the name under which works applied by people are managed.
const fieldManager = "fairlead"

// ApplyWork creates a work or makes an existing one equal to what is given. A
// repeat changes nothing, so a lost answer costs nothing.
func (s workService) ApplyWork(ctx context.Context, r *adminv1.ApplyWorkRequest) (*adminv1.ApplyWorkResponse, error) {
	who, err := s.callers.of(ctx)
	if err != nil {
		return nil, err
	}
	wanted, size, err := parseWork(r, s.ManifestLimit)
	if err != nil {
		return nil, err
	}
	if err := s.acceptsWorks(ctx, who, r.GetClusterName()); err != nil {
		return nil, err
	}
	works := who.Dynamic.Resource(manifestWorks).Namespace(r.GetClusterName())
	before, stored, err := write(ctx, works, wanted, r)
	if s.Clusterless && rpcerr.ReasonOf(err) == reason.NotAccepted {
		return nil, fail(codes.FailedPrecondition, reason.NotFound, "there is no namespace %q on the hub: make it for the cluster whose certificates have that name", r.GetClusterName())
	}
	if err != nil {
		return nil, err
	}
	raw, err := stored.MarshalJSON()
	if err != nil {
		return nil, fail(codes.Internal, reason.Internal, "encoding work %q: %v", stored.GetName(), err)
	}
	s.audit(ctx, deed{action: "ApplyWork", actor: who.Name, cluster: r.GetClusterName(), before: before, after: stored.GetGeneration()},
		"work", stored.GetName(), "uid", stored.GetUID(), "request", r.GetRequestId(), "dryRun", r.GetDryRun())
	return &adminv1.ApplyWorkResponse{
		Uid: string(stored.GetUID()), Generation: stored.GetGeneration(), ResourceVersion: stored.GetResourceVersion(),
		Digest: deliveredDigest(raw), Size: uint64(max(0, size)), Limit: uint64(max(0, s.ManifestLimit)), WorkJson: string(raw),
	}, nil
}

// acceptsWorks tells apart, for the author, a name that nobody has from a
// cluster that is not accepted yet.
func (s *Service) acceptsWorks(ctx context.Context, who *caller, cluster string) error {
	if err := identity.ValidateClusterName(cluster); err != nil {
		return fail(codes.InvalidArgument, reason.InvalidName, "%v", err)
	}
	_, err := who.Dynamic.Resource(managedClusters).Get(ctx, cluster, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && s.Clusterless:
		return nil // the cluster's namespace is all there need be
	case apierrors.IsNotFound(err):
		return fail(codes.NotFound, reason.UnknownCluster, "no cluster %q: see «fairlead get clusters», or join it with «fairlead token create %s»", cluster, cluster)
	case apierrors.IsForbidden(err):
		return nil // an author of works need not be able to read clusters
	case err != nil:
		return kubernetesError(err, "reading cluster %q", cluster)
	}
	return nil
}

// write creates or changes the work; before is the generation that it had, 0 for none.
func write(ctx context.Context, works dynamic.ResourceInterface, wanted *unstructured.Unstructured, r *adminv1.ApplyWorkRequest) (before int64, stored *unstructured.Unstructured, err error) {
	var dryRun []string
	if r.GetDryRun() {
		dryRun = []string{metav1.DryRunAll}
	}
	attempt := func() error {
		live, err := works.Get(ctx, wanted.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			stored, err = works.Create(ctx, wanted, metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRun})
			return err
		}
		if err != nil {
			return err
		}
		before = live.GetGeneration()
		changed, differs := merged(live, wanted)
		if expected := r.GetExpectedResourceVersion(); expected != "" {
			changed.SetResourceVersion(expected)
		}
		if !differs && changed.GetResourceVersion() == live.GetResourceVersion() {
			stored = live
			return nil
		}
		stored, err = works.Update(ctx, changed, metav1.UpdateOptions{FieldManager: fieldManager, DryRun: dryRun})
		return err
	}
	if r.GetExpectedResourceVersion() != "" {
		err = attempt()
	} else {
		err = retry.RetryOnConflict(retry.DefaultRetry, attempt)
	}
	switch {
	case apierrors.IsNotFound(err):
		return 0, nil, fail(codes.FailedPrecondition, reason.NotAccepted, "cluster %q has no namespace on the hub yet: accept it first with «fairlead accept %s»", r.GetClusterName(), r.GetClusterName())
	case err != nil:
		return 0, nil, kubernetesError(err, "writing work %q of cluster %q", wanted.GetName(), r.GetClusterName())
	}
	return before, stored, nil
}

// merged is live with the spec that is wanted and its labels and annotations
// added; what others keep in metadata stays.
func merged(live, wanted *unstructured.Unstructured) (*unstructured.Unstructured, bool) {
	out := live.DeepCopy()
	out.Object["spec"] = wanted.Object["spec"]
	out.SetLabels(added(out.GetLabels(), wanted.GetLabels()))
	out.SetAnnotations(added(out.GetAnnotations(), wanted.GetAnnotations()))
	finalizers := out.GetFinalizers()
	if out.GetDeletionTimestamp() == nil && !slices.Contains(finalizers, identity.ManifestWorkFinalizer) {
		out.SetFinalizers(append(finalizers, identity.ManifestWorkFinalizer))
	}
	return out, !equality.Semantic.DeepEqual(live.Object, out.Object)
}

// added is what is there with more put over it.
func added(there, more map[string]string) map[string]string {
	if there == nil {
		return more
	}
	maps.Copy(there, more)
	return there
}

// GetWork reads one work with the caller's own token.
func (s workService) GetWork(ctx context.Context, r *adminv1.GetWorkRequest) (*adminv1.GetWorkResponse, error) {
	who, err := s.asked(ctx, r.GetClusterName(), r.GetName())
	if err != nil {
		return nil, err
	}
	work, err := who.Dynamic.Resource(manifestWorks).Namespace(r.GetClusterName()).Get(ctx, r.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, kubernetesError(err, "reading work %q of cluster %q", r.GetName(), r.GetClusterName())
	}
	message, err := workMessage(work)
	if err != nil {
		return nil, err
	}
	return &adminv1.GetWorkResponse{WorkJson: message.GetWorkJson()}, nil
}

// answerBytes is where a page of works ends although more fit by number: the
// answer stays under the 4 MiB that gRPC clients take, unless single works are
// huge.
const answerBytes = 2 << 20

// firstChunk is how many works are asked of the apiserver before their size is
// known.
const firstChunk = 16

// ListWorks lists works of one cluster or of all, as far as the caller may.
func (s workService) ListWorks(ctx context.Context, r *adminv1.ListWorksRequest) (*adminv1.ListWorksResponse, error) {
	who, err := s.asked(ctx, clusters(r.GetClusterName())...)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	resource := who.Dynamic.Resource(manifestWorks).Namespace(r.GetClusterName())
	out := &adminv1.ListWorksResponse{NextPageToken: r.GetPageToken()}
	for bytes, chunk := 0, firstChunk; ; {
		list, err := resource.List(ctx, metav1.ListOptions{
			LabelSelector: r.GetLabelSelector(), Limit: int64(min(chunk, size-len(out.GetWorks()))), Continue: out.GetNextPageToken(),
		})
		if err != nil {
			return nil, kubernetesError(err, "listing works of %s", clusterText(r.GetClusterName()))
		}
		for i := range list.Items {
			message, err := workMessage(&list.Items[i])
			if err != nil {
				return nil, err
			}
			bytes += len(message.GetWorkJson())
			out.Works = append(out.Works, message)
		}
		out.NextPageToken = list.GetContinue()
		if out.GetNextPageToken() == "" || len(out.GetWorks()) >= size || bytes >= answerBytes {
			return out, nil
		}
		average := max(1, bytes/max(1, len(out.GetWorks())))
		chunk = max(1, (answerBytes-bytes)/average)
	}
}

// clusters is the cluster that a list is of; none is all.
func clusters(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

func clusterText(name string) string {
	if name == "" {
		return "all clusters"
	}
	return strconv.Quote(name)
}

// WatchWorks follows works with the caller's own token.
func (s workService) WatchWorks(r *adminv1.WatchWorksRequest, stream grpc.ServerStreamingServer[adminv1.WatchWorksResponse]) error {
	who, err := s.asked(stream.Context(), clusters(r.GetClusterName())...)
	if err != nil {
		return err
	}
	selector := metav1.ListOptions{LabelSelector: r.GetLabelSelector()}
	if r.GetName() != "" {
		selector.FieldSelector = "metadata.name=" + r.GetName()
	}
	return s.follow(stream.Context(), follower{
		resource: who.Dynamic.Resource(manifestWorks).Namespace(r.GetClusterName()),
		selector: selector,
		upsert: func(u *unstructured.Unstructured) error {
			message, err := workMessage(u)
			if err != nil {
				return err
			}
			return stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Upsert{Upsert: message}})
		},
		removed: func(u *unstructured.Unstructured) error {
			return stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Removed{Removed: workRef(u)}})
		},
		synced: func(token string) error {
			mark := &adminv1.Bookmark{ResumeToken: token, InitialSyncComplete: true}
			return stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Bookmark{Bookmark: mark}})
		},
		reset: func(why string) error {
			return stream.Send(&adminv1.WatchWorksResponse{Event: &adminv1.WatchWorksResponse_Reset_{Reset_: &adminv1.Reset{Reason: why}}})
		},
	})
}

// DeleteWork deletes a work; it goes when the spoke is clean.
func (s workService) DeleteWork(ctx context.Context, r *adminv1.DeleteWorkRequest) (*adminv1.DeleteWorkResponse, error) {
	who, err := s.asked(ctx, r.GetClusterName(), r.GetName())
	if err != nil {
		return nil, err
	}
	var options metav1.DeleteOptions
	if r.GetUid() != "" {
		uid := types.UID(r.GetUid())
		options.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	if err := who.Dynamic.Resource(manifestWorks).Namespace(r.GetClusterName()).Delete(ctx, r.GetName(), options); err != nil {
		return nil, kubernetesError(err, "deleting work %q of cluster %q", r.GetName(), r.GetClusterName())
	}
	s.audit(ctx, deed{action: "DeleteWork", actor: who.Name, cluster: r.GetClusterName(), before: "wanted", after: "to be removed"}, "work", r.GetName(), "uid", r.GetUid())
	return &adminv1.DeleteWorkResponse{}, nil
}

func workRef(u *unstructured.Unstructured) *adminv1.WorkRef {
	return &adminv1.WorkRef{ClusterName: u.GetNamespace(), Name: u.GetName(), Uid: string(u.GetUID())}
}

func workMessage(u *unstructured.Unstructured) (*adminv1.Work, error) {
	raw, err := u.MarshalJSON()
	if err != nil {
		return nil, fail(codes.Internal, reason.Internal, "encoding work %q: %v", u.GetName(), err)
	}
	return &adminv1.Work{Ref: workRef(u), WorkJson: string(raw)}, nil
}

// deliveredDigest is empty for an object that was not stored (a dry run has no
// UID to be delivered under).
func deliveredDigest(raw []byte) string {
	scanned, err := wire.Scan(raw)
	if err != nil {
		return ""
	}
	return hexDigest(scanned.Digest)
}
