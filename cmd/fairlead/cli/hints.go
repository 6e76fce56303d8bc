// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import "fairlead.dev/fairlead/internal/wire/reason"

// hints say what to do about a reason; docs/errors.md says more. Every reason
// has one.
func hints() map[string]string {
	const (
		newToken  = "«fairlead token create CLUSTER» makes a new join string"
		nothing   = "nothing is to be done: the agent comes back by itself"
		tryAgain  = "try again in some seconds"
		joinAgain = "to have it back, join it again with a new join string: «fairlead token create CLUSTER»"
	)
	return map[string]string{
		reason.UnknownCluster:   "«fairlead get clusters» shows the names that the hub knows",
		reason.ClusterRemoved:   joinAgain,
		reason.NotAccepted:      "«fairlead get enrollments» shows its pairing code; «fairlead accept» accepts it",
		reason.Revoked:          joinAgain,
		reason.UIDMismatch:      "a cluster that was removed and made again is another cluster: join it again",
		reason.SerialMismatch:   "«fairlead get clusters CLUSTER -o wide» says whether its certificate was cloned",
		reason.CertificateClone: "«fairlead get enrollments CLUSTER» says what to compare; then «fairlead accept CLUSTER --serial SERIAL», or «fairlead token create CLUSTER --re-enroll»",
		reason.CertificateError: "the agent has to use the certificate that this hub issued",
		reason.ClusterConnected: "«fairlead delete cluster CLUSTER» without --force cleans up the spoke and waits for that",
		reason.ConsentWithdrawn: "«fairlead unjoin» removes the rest of it; to have it back: «fairlead token create CLUSTER --re-enroll»",
		reason.DuplicateCluster: "two spokes have the same credentials: remove them from one of the two and join that under its own name",
		reason.AgentFlapping:    "run one agent per spoke; «fairlead get sessions CLUSTER -w» shows where they come from",
		reason.PermissionDenied: "ask an admin of the hub's Kubernetes for a role that allows it, such as ClusterRole fairlead-admin",
		reason.Unauthenticated:  "is your kubeconfig's token still valid, and of this hub's Kubernetes?",

		reason.InvalidJoinString:   "copy the whole line that «fairlead token create» printed",
		reason.HubCAMismatch:       "check the endpoint; if the hub's CA changed, a new join string is needed",
		reason.ClockSkew:           "have NTP set the clocks of this machine and of the hub",
		reason.InvalidToken:        newToken,
		reason.TokenExpired:        newToken,
		reason.TokenUsed:           "if it was not you: «fairlead get enrollments» shows who used it, «fairlead deny» refuses them; then make a new join string",
		reason.NameNotAllowed:      "make a join string for this very name: «fairlead token create CLUSTER»",
		reason.InvalidName:         "names have lower-case letters, digits and '-', at most 63",
		reason.InvalidCSR:          "update the agent",
		reason.ClusterExists:       "choose another name, or, if it is the same cluster with a new key: «fairlead token create CLUSTER --re-enroll»",
		reason.PairingCodeMismatch: "read the code where the agent runs; «fairlead deny CLUSTER» refuses a key that is not yours",
		reason.TooManyPending:      "«fairlead get enrollments --state Pending» lists them; accept or deny some",
		reason.RateLimited:         tryAgain,
		reason.EnrollmentNotFound:  "«fairlead get enrollments» lists who asked to join",
		reason.EnrollmentEnded:     newToken,
		reason.InvalidProof:        "nothing is to be done: the agent asks for a new challenge by itself",

		reason.ProxyUnreachable:  "check --proxy-url, or HTTPS_PROXY where the agent runs",
		reason.ProxyTLS:          "give the proxy's CA with --proxy-ca",
		reason.ProxyAuthRequired: "put user and password into --proxy-url",
		reason.ProxyRefused:      "have the proxy's admin allow CONNECT to the hub's endpoint",
		reason.TLSTerminated:     "have the load balancer or proxy before the hub pass TLS through: docs/networks.md",

		reason.Superseded:         nothing,
		reason.Fenced:             nothing,
		reason.Kicked:             nothing,
		reason.SlowConsumer:       "check the spoke's network, and the load of the agent",
		reason.LivenessLost:       "check the network between spoke and hub",
		reason.CertificateExpired: "if the agent was off for long: «fairlead token create CLUSTER --re-enroll»",
		reason.Draining:           nothing,
		reason.HubStarting:        "the hub is reading its state: " + tryAgain,
		reason.HubRestored:        "«fairlead release CLUSTER» shows deletes that are held now",
		reason.HubOverloaded:      "the hub is busy: " + tryAgain,
		reason.ReplicaSilent:      "«fairlead get sessions» names the replica: is it running, and can the others reach its admin listener (--advertise-admin-address)?",
		reason.ApiserverLost:      "check the hub's Kubernetes",
		reason.ProtocolTooOld:     "update the older of hub and agent",
		reason.ProtocolError:      "please report it, with the logs of hub and agent",
		reason.Unsupported:        "update the older of the two sides",

		reason.TermHeld:           "another process has the scheduler's term: " + tryAgain,
		reason.StaleGeneration:    "read the placement again, and decide anew",
		reason.SchedulingDisabled: "take annotation experimental-scheduling-disable off the placement",
		reason.OtherScheduler:     "the placement's annotation fairlead.dev/scheduler says who decides it",

		reason.ObjectTooLarge:  "split the manifests into several works",
		reason.StatusTooLarge:  "ask for fewer feedback values, or make smaller works",
		reason.Undecodable:     "check the YAML: each document needs apiVersion, kind and metadata.name",
		reason.DigestMismatch:  "nothing is to be done, unless it repeats: the content is asked for again",
		reason.InvalidArgument: "the message names the value that is wrong",
		reason.NotFound:        "check the names: «fairlead get clusters» and «fairlead get works» list them",
		reason.HeldOnSpoke:     "what was applied by another hub, or before the agent lost its store, only somebody with rights on the spoke lets go",
		reason.Conflict:        "someone else changed it at the same time: look at it and try again",
		reason.Internal:        "please report it; the hub's log has the cause",
	}
}
