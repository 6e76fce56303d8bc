// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	workv1 "open-cluster-management.io/api/work/v1"
)

const worksResource = "manifestworks"

// errName says that a name cannot be that of an object.
var errName = errors.New("not the name of an object")

// requestTimeout bounds one request that is not a list or a watch.
const requestTimeout = 10 * time.Second

// works speaks raw JSON with the apiserver about ManifestWorks. It never
// retries by itself: its callers know what an error means for them.
type works struct{ rest rest.Interface }

func newWorks(cfg *rest.Config) (works, error) {
	client, err := rawClient(cfg, workv1.GroupName, workv1.GroupVersion.Version)
	if err != nil {
		return works{}, fmt.Errorf("client for ManifestWorks: %w", err)
	}
	return works{rest: client}, nil
}

// rawClient sends and receives JSON as it is. It does not limit its rate: who
// uses it goes by the apiserver's answers.
func rawClient(cfg *rest.Config, group, version string) (rest.Interface, error) {
	if cfg == nil {
		return nil, errors.New("no rest config was given")
	}
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath, cfg.GroupVersion = "/apis", &schema.GroupVersion{Group: group, Version: version}
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	cfg.QPS, cfg.RateLimiter = -1, nil
	return rest.RESTClientFor(cfg)
}

// do sends a request and returns the body of a 2xx answer.
func do(ctx context.Context, r *rest.Request) ([]byte, error) {
	result := r.MaxRetries(0).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

func (w works) get(ctx context.Context, namespace, name string) ([]byte, error) {
	segments, err := workPath(namespace, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return do(ctx, w.rest.Get().AbsPath(segments...))
}

// page lists up to limit works of all namespaces (all of them when limit is 0).
// Without a token it is a quorum read.
func (w works) page(ctx context.Context, limit int64, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	segments, err := workPath("", "")
	if err != nil {
		return nil, err
	}
	r := w.rest.Get().AbsPath(segments...)
	if limit > 0 {
		r = r.Param("limit", strconv.FormatInt(limit, 10))
	}
	if token != "" {
		r = r.Param("continue", token)
	}
	return do(ctx, r)
}

// watch streams changes of all works after a resourceVersion, one JSON object
// a line, until the apiserver ends it after timeout.
func (w works) watch(ctx context.Context, after uint64, timeout time.Duration) (io.ReadCloser, error) {
	segments, err := workPath("", "")
	if err != nil {
		return nil, err
	}
	return w.rest.Get().AbsPath(segments...).MaxRetries(0).
		Param("watch", "true").Param("allowWatchBookmarks", "true").
		Param("resourceVersion", strconv.FormatUint(after, 10)).
		Param("timeoutSeconds", strconv.Itoa(int(math.Ceil(timeout.Seconds())))).
		Stream(ctx)
}

// patch merges body into a work, or into a subresource of it.
func (w works) patch(ctx context.Context, namespace, name, subresource string, body []byte) ([]byte, error) {
	var below []string
	if subresource != "" {
		below = []string{subresource}
	}
	segments, err := workPath(namespace, name, below...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return do(ctx, w.rest.Patch(types.MergePatchType).AbsPath(segments...).Param("fieldManager", statusManager).Body(body))
}

// workPath is the path of a work, or of all works. A name that could lead
// anywhere else is an error: names come from agents (T49).
func workPath(namespace, name string, below ...string) ([]string, error) {
	segments := []string{"apis", workv1.GroupName, workv1.GroupVersion.Version}
	if namespace != "" {
		segments = append(segments, "namespaces", namespace)
	}
	segments = append(segments, worksResource)
	if name != "" {
		segments = append(segments, name)
	}
	segments = append(segments, below...)
	for _, segment := range segments {
		if err := checkSegment(segment); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

// checkSegment says why a text cannot be one segment of a path.
func checkSegment(segment string) error {
	if segment == "" {
		return errors.New("a name is empty")
	}
	if why := content.IsPathSegmentName(segment); len(why) > 0 {
		return fmt.Errorf("%w: %.64q: %s", errName, segment, strings.Join(why, ", "))
	}
	return nil
}

// absent tells whether err is the apiserver's word that this very object does
// not exist. A missing CRD, a wrong path or a proxy's 404 is not that.
func absent(err error, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Name == name && details.Kind == worksResource
}

// expired tells whether a list or watch cannot go on from where it was.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}
