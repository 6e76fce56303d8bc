// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import "google.golang.org/grpc"

// adminServices is the list of what people call; each entry registers one or
// more services whose methods are in the table of authz.
func (h *house) adminServices() []func(grpc.ServiceRegistrar) {
	return nil
}
