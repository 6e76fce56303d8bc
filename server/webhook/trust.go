// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/pki"
)

// Configurations are the objects by which the apiserver knows the webhooks, with
// nothing but their names; for whoever watches them.
func Configurations() []client.Object {
	validating, mutating := &admissionregistrationv1.ValidatingWebhookConfiguration{}, &admissionregistrationv1.MutatingWebhookConfiguration{}
	validating.Name, mutating.Name = ConfigurationName, ConfigurationName
	return []client.Object{validating, mutating}
}

// Publish puts an authority into the caBundle of every webhook that calls the
// hub, beside those that are there or instead of them. trusted tells whether it
// was in all of them before. A configuration that does not exist is no error:
// nobody calls. Any number of replicas may do it at once.
func (w *Webhooks) Publish(ctx context.Context, root *x509.Certificate, keepOthers bool) (trusted bool, err error) {
	trusted = true
	var problems []error
	for _, configuration := range Configurations() {
		before, err := w.publish(ctx, configuration, root, keepOthers)
		trusted = trusted && before
		problems = append(problems, err)
	}
	return trusted, errors.Join(problems...)
}

func (w *Webhooks) publish(ctx context.Context, configuration client.Object, root *x509.Certificate, keepOthers bool) (trusted bool, err error) {
	err = w.cfg.Client.Get(ctx, client.ObjectKeyFromObject(configuration), configuration)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading how the apiserver calls the webhooks: %w", err)
	}
	trusted = true
	patch := []map[string]any{{"op": "test", "path": "/metadata/resourceVersion", "value": configuration.GetResourceVersion()}}
	for i, called := range clientConfigs(configuration) {
		wanted, known := bundle(called.CABundle, root, keepOthers)
		trusted = trusted && known
		if !bytes.Equal(wanted, called.CABundle) {
			patch = append(patch, map[string]any{"op": "add", "path": fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), "value": wanted})
		}
	}
	if len(patch) == 1 {
		return trusted, nil
	}
	raw, err := json.Marshal(patch)
	if err != nil {
		return false, err
	}
	if err := w.cfg.Client.Patch(ctx, configuration, client.RawPatch(types.JSONPatchType, raw)); err != nil {
		return false, fmt.Errorf("telling the apiserver by which authority webhooks are served: %w", err)
	}
	w.cfg.Log.InfoContext(ctx, "the apiserver was told by which authority webhooks are served", "configuration", fmt.Sprintf("%T", configuration), "serial", pki.Serial(root))
	return trusted, nil
}

func clientConfigs(configuration client.Object) (all []admissionregistrationv1.WebhookClientConfig) {
	switch c := configuration.(type) {
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range c.Webhooks {
			all = append(all, c.Webhooks[i].ClientConfig)
		}
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range c.Webhooks {
			all = append(all, c.Webhooks[i].ClientConfig)
		}
	}
	return all
}

// bundle is the PEM of root and, if asked for, of what is trusted beside it.
func bundle(existing []byte, root *x509.Certificate, keepOthers bool) (wanted []byte, known bool) {
	certs, err := pki.ParseCertificates(existing)
	if err != nil {
		certs = nil // it is empty, or of no use
	}
	known = slices.ContainsFunc(certs, root.Equal)
	switch {
	case !keepOthers:
		return pki.EncodeCertificates(root), known
	case known:
		return existing, true
	default:
		return pki.EncodeCertificates(append([]*x509.Certificate{root}, certs...)...), false
	}
}
