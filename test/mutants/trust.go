// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

func identities() []mutant {
	enrolling := []string{"./server/enroll"}
	return []mutant{
		{
			name: "any-serial", rule: "c10: a serial that is neither the current nor the next one is refused",
			file: "internal/api/v1alpha1/clusterenrollment.go", tests: enrolling,
			old: `c != nil && c.Serial != "" && c.Serial == serial {`, new: `c != nil && c.Serial != "" {`,
		},
		{
			name: "any-key", rule: "decision 6: the serial counts with the key it was issued to",
			file: "server/enroll/authenticate.go", tests: enrolling,
			old: "		if found == nil || found.KeySHA256 != key {", new: "		if _ = key; found == nil {",
		},
		{
			name: "revoked-serial", rule: "c10: a revoked serial is refused whatever else is true",
			file: "server/enroll/authenticate.go", tests: enrolling,
			old: "		if slices.Contains(e.Status.RevokedSerials, serial) {", new: "		if slices.Contains(e.Status.RevokedSerials, serial) && false {",
		},
		{
			name: "no-clone-alarm", rule: "c10: an older serial puts the enrollment out of use until a person decides",
			file: "server/enroll/clone.go", tests: enrolling,
			old: "	at := slices.IndexFunc(", new: "	at := -1 + 0*slices.IndexFunc(",
		},
		{
			name: "any-vouched-serial", rule: "c10: a person vouches for the current or the next certificate and no other",
			file: "server/enroll/clone.go", tests: enrolling,
			old: "		own := e.CertificateBySerial(serial)\n", new: "		own := e.Status.Current\n",
		},
		{
			name: "not-accepted", rule: "decision 4: a cluster that the hub does not accept is refused",
			file: "server/enroll/authenticate.go", tests: enrolling,
			old: "	if !cluster.Spec.HubAcceptsClient {\n		return enrollment", new: "	if false {\n		return enrollment",
		},
		{
			name: "recreated-cluster", rule: "B52: a certificate is of one ManagedCluster UID",
			file: "server/enroll/authenticate.go", tests: enrolling,
			old: `	if id.UID != "" && id.UID != string(cluster.UID) || enrollment`, new: `	if false && enrollment`,
		},
		{
			name: "absent-cluster-is-removed", rule: "c4: absence never triggers onDetach; only a removal that was seen does",
			file: "server/enroll/authenticate.go", tests: enrolling,
			old: `e.Status.ClusterRemoved != nil && id.UID != "" && e.Spec.ManagedClusterUID == id.UID {`, new: `e.Status.ClusterRemoved == nil || true {`,
		},
		{
			name: "any-pairing-code", rule: "decision 4: acceptance repeats the pairing code of that very key",
			file: "server/enroll/decide.go", tests: enrolling,
			old: "	if identity.NormalizePairingCode(choice.PairingCode) != enrollment.Spec.PairingCode {", new: "	if false {",
		},
	}
}

// requests are the guards between a request for a certificate and the wire.
func requests() []mutant {
	signing := []string{"./server/controller/registration"}
	return []mutant{
		{
			name: "any-authority", rule: "c11: a certificate counts only if it chains to the client CA, whoever wrote it into the CSR",
			file: "server/controller/registration/sign.go", tests: signing,
			old: "	}); err != nil {\n		return nil, notTaken(refusedIssuer", new: "	}); err != nil && false {\n		return nil, notTaken(refusedIssuer",
		},
		{
			name: "any-requester", rule: "B44: only the hub's own account asks for agents' certificates",
			file: "server/controller/registration/request.go", tests: signing,
			old: "	case spec.Username != p.cfg.requester():", new: "	case false:",
		},
		{
			name: "any-csr-key", rule: "decision 7: approver and signer demand the recorded key",
			file: "server/controller/registration/request.go", tests: signing,
			old: "; key != keySHA256 {", new: `; key == "" {`,
		},
		{
			name: "extensions-in-csr", rule: "decision 6: a CSR asks for nothing but its subject",
			file: "internal/pki/csr.go", tests: []string{"./internal/pki"},
			old: "	if len(csr.Extensions) > 0 {", new: "	if len(csr.Extensions) > 1000 {",
		},
		{
			name: "unsigned-csr", rule: "c10: CheckSignature comes first",
			file: "internal/pki/csr.go", tests: []string{"./internal/pki"},
			old: "	if err := csr.CheckSignature(); err != nil {", new: "	if csr == nil {",
		},
		{
			name: "any-name", rule: "T49: a name that is a path would lead to another cluster's object",
			file: "server/rpc/agent/effects.go", tests: []string{"./server/rpc/agent"}, run: "TestT49_",
			old: "return len(validation.IsDNS1123Subdomain(key.Name)) == 0 }", new: `return len(validation.IsDNS1123Subdomain("a")) == 0 }`,
		},
		{
			name: "any-segment", rule: "T49: nor is it put into the path of a request",
			file: "server/store/client.go", tests: []string{"./server/store"}, run: "TestStatus_T49_",
			old: "	if why := content.IsPathSegmentName(segment); len(why) > 0 {", new: `	if why := content.IsPathSegmentName("a"); len(why) > 0 {`,
		},
		{
			name: "unlisted-method", rule: "B46: a method that is not in the table is refused",
			file: "server/rpc/interceptor/admit.go", tests: []string{"./server/rpc/interceptor"},
			old: "	if !ok || rule.Listeners&c.cfg.Listener == 0 {", new: "	if false && ok {",
		},
		{
			name: "any-credential", rule: "c12: an agent's certificate is refused on admin methods by its type, and the reverse",
			file: "server/rpc/interceptor/admit.go", tests: []string{"./server/rpc/interceptor"},
			old: "	if !rule.Allows(caller.Type) {", new: "	if false {",
		},
		{
			name: "made-up-token", rule: "c12: whose token it is comes before what was sent",
			file: "server/rpc/interceptor/admit.go", tests: []string{"./server/rpc/interceptor"},
			old: "	if caller.Type == authz.Person && !rule.Allows(authz.Anonymous) {", new: "	if false {",
		},
		{
			name: "refused-at-once", rule: "T52: who has no credential cannot ask as fast as the hub can refuse",
			file: "server/rpc/interceptor/chain.go", tests: []string{"./server/rpc/interceptor"},
			old: "	detain(ctx, err)\n", new: "",
		},
		{
			name: "agents-detained", rule: "T52: an agent with a certificate is told at once",
			file: "server/rpc/interceptor/chain.go", tests: []string{"./server/rpc/interceptor"},
			old: "info != nil && info.certified() {", new: "info == nil {",
		},
	}
}

func ways() []mutant {
	return []mutant{
		{
			name: "no-pin", rule: "decision 5: the token leaves the agent only for the pinned root",
			file: "internal/pki/verify.go", tests: []string{"./internal/pki"},
			old: "		if Fingerprint(cert) == trust.Pin {", new: "		if true {",
		},
		{
			name: "terminated-TLS", rule: "decision 5: TLS ends at the hub, or nothing is said",
			file: "internal/dialer/way.go", tests: []string{"./internal/dialer"},
			old: "	if err == nil && !asked {", new: "	if err == nil && !asked && false {",
		},
		{
			name: "proxy-speaks-first", rule: "RA-54: what a proxy puts into the tunnel is not taken for the hub's",
			file: "internal/dialer/proxy.go", tests: []string{"./internal/dialer"},
			old: "	if reader.Buffered() > 0 {", new: "	if false {",
		},
	}
}

func joining() []mutant {
	enrolling := []string{"./server/enroll"}
	return []mutant{
		{
			name: "budget-of-all-first", rule: "T53: a source spends its own budget before everybody's",
			file: "server/enroll/enroll.go", tests: enrolling,
			old: "	if name, known := s.known(ctx, req); known {\n", new: "	if err := spend(s.limits.global, now); err != nil {\n		return err\n	}\n	if name, known := s.known(ctx, req); known {\n",
		},
		{
			name: "reserved-labels", rule: "a join token gives no label that means something to OCM or to us",
			file: "server/enroll/token.go", tests: enrolling,
			old: `if domain == reserved || strings.HasSuffix(domain, "."+reserved) {`, new: `if domain == reserved && false {`,
		},
	}
}
