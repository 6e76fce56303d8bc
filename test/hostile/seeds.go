// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Seeds calls add with what a fuzz target of methods begins with: the good requests
// of each method, every bad shape of its request, and choices of which Random makes
// one. method is the index in methods; chosen tells that data are choices.
func Seeds(methods []Method, good []proto.Message, add func(method byte, chosen bool, data []byte)) error {
	for i, m := range methods {
		for _, request := range good {
			if request.ProtoReflect().Descriptor() != m.Input {
				continue
			}
			raw, err := proto.Marshal(request)
			if err != nil {
				return fmt.Errorf("a good request of %s: %w", m.Name, err)
			}
			add(byte(i), false, raw)
		}
		for _, shape := range Shapes(m.Input, 1<<10) {
			add(byte(i), false, shape.Bytes)
		}
		add(byte(i), true, []byte("\xff\x00\x01\x02\x03\x04"))
	}
	return nil
}
