// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import "net/netip"

// Limited is how many requests a source may still make at once.
func (s *Service) Limited(source netip.Addr) float64 {
	return s.limits.source.of(sourceKey(source)).TokensAt(s.cfg.Clock.Now())
}

// OpenPolls is how many long polls are open.
func (s *Service) OpenPolls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.polls)
}
