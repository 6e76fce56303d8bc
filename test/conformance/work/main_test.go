// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work tests the executor of works against a real apiserver: what it applies, reports, heals and deletes, row by row of
// the behaviour that OCM's users rely on. The plane has no controller-manager, hence no garbage collector: nothing here may
// need one.
package work

import (
	"bytes"
	"testing"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	env.Main(m, env.Options{Name: "work", CRDs: append(deploy.SpokeCRDs(), []byte(widgetCRD), manifestWorkCRD())})
}

// manifestWorkCRD is for a spoke that is a hub, too.
func manifestWorkCRD() []byte {
	for _, crd := range deploy.HubCRDs() {
		if bytes.Contains(crd, []byte("name: manifestworks.work.open-cluster-management.io")) {
			return crd
		}
	}
	panic("deploy has no ManifestWork CRD")
}

// widgetCRD is a kind with defaults, a list merged by key, and no opinion on what is in spec.free.
const widgetCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.fairlead.dev}
spec:
  group: test.fairlead.dev
  scope: Namespaced
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              color: {type: string, default: blue}
              size: {type: integer}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {type: string}
                    count: {type: integer, default: 1}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
`
