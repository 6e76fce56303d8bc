// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"strings"
	"time"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/scale/stat"
)

// Requests counts what the apiserver was asked so far, by «VERB resource» or
// «VERB resource/subresource».
func (w *World) Requests(ctx context.Context) (stat.Counts, error) {
	text, err := w.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	counts := stat.Counts{}
	err = stat.ParsePrometheus(text, func(s stat.Sample) {
		what := s.Labels["verb"] + " " + s.Labels["resource"]
		if sub := s.Labels["subresource"]; sub != "" {
			what += "/" + sub
		}
		counts[what] += int(s.Value)
	}, "apiserver_request_total")
	return counts, err
}

// IsWrite tells whether a request counted by Requests writes.
func IsWrite(what string) bool {
	verb, _, _ := strings.Cut(what, " ")
	switch verb {
	case "POST", "PUT", "PATCH", "APPLY", "DELETE":
		return true
	}
	return false
}

// CPU is what apiserver and etcd have used so far.
func (w *World) CPU() (time.Duration, error) {
	sum := time.Duration(0)
	for _, c := range []env.Component{env.APIServer, env.Etcd} {
		used, err := stat.ReadCPU(w.Plane.PID(c))
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}
