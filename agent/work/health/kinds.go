// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package health

// What is said of more than one kind.
const (
	unseen      = "its controller has not seen the latest spec yet"
	updating    = "not all replicas are updated"
	replacing   = "replicas of the old kind are left"
	unavailable = "not all replicas are available"
	unready     = "not all replicas are ready"
)

// deployment goes by what `kubectl rollout status` goes by. Once a rollout was done, replicas that come and go are no rollout as
// long as enough are available.
func deployment(d reader) state {
	wanted := d.numberOr(1, "spec", "replicas")
	replicas, updated := d.number("status", "replicas"), d.number("status", "updatedReplicas")
	progressing, available := d.condition("Progressing"), d.number("status", "availableReplicas")
	enough := available >= updated
	if progressing.text("reason") == "NewReplicaSetAvailable" && !d.is("Available", "False") {
		enough = true
	}
	switch {
	case !d.has("status", "observedGeneration"):
		return state{progressing: unseen}
	case progressing.text("status") == "False":
		return state{failed: progressing.words("its rollout does not progress")}
	case d.is("ReplicaFailure", "True"):
		return state{failed: d.condition("ReplicaFailure").words("replicas cannot be made")}
	case updated < wanted:
		return state{progressing: updating}
	case replicas > updated:
		return state{progressing: replacing}
	case !enough:
		return state{progressing: unavailable}
	}
	return state{}
}

func statefulSet(s reader) state {
	wanted := s.numberOr(1, "spec", "replicas")
	updated := s.number("status", "updatedReplicas")
	partition := s.number("spec", "updateStrategy", "rollingUpdate", "partition")
	byHand := s.text("spec", "updateStrategy", "type") == "OnDelete"
	current := s.text("status", "updateRevision") == s.text("status", "currentRevision")
	switch {
	case !s.has("status", "observedGeneration"):
		return state{progressing: unseen}
	case s.number("status", "replicas") != wanted:
		return state{progressing: "the number of replicas is not reached"}
	case !byHand && !current && updated < wanted-partition:
		return state{progressing: updating}
	case s.number("status", "readyReplicas") < wanted:
		return state{progressing: unready}
	case s.number("status", "availableReplicas") < wanted:
		return state{progressing: unavailable}
	}
	return state{}
}

func daemonSet(d reader) state {
	wanted := d.number("status", "desiredNumberScheduled")
	byHand := d.text("spec", "updateStrategy", "type") == "OnDelete"
	switch {
	case !d.has("status", "observedGeneration"):
		return state{progressing: unseen}
	case !byHand && d.number("status", "updatedNumberScheduled") < wanted:
		return state{progressing: updating}
	case d.number("status", "numberAvailable") < wanted:
		return state{progressing: unavailable}
	}
	return state{}
}

func replicaSet(r reader) state {
	wanted := r.numberOr(1, "spec", "replicas")
	switch {
	case !r.has("status", "observedGeneration"):
		return state{progressing: unseen}
	case r.is("ReplicaFailure", "True"):
		return state{failed: r.condition("ReplicaFailure").words("replicas cannot be made")}
	case r.number("status", "replicas") != wanted:
		return state{progressing: "the number of replicas is not reached"}
	case r.number("status", "availableReplicas") < wanted:
		return state{progressing: unavailable}
	}
	return state{}
}

// job is on its way until it is finished. One that is suspended is as its spec wants it.
func job(j reader) state {
	suspended, _ := j.value("spec", "suspend").(bool)
	switch {
	case j.is("Failed", "True"):
		return state{failed: j.condition("Failed").words("the Job failed")}
	case j.is("Complete", "True"), suspended:
		return state{}
	}
	return state{progressing: "the Job is not finished"}
}

func pod(p reader) state {
	switch p.text("status", "phase") {
	case "Succeeded":
		return state{}
	case "Failed":
		return state{failed: reader{map[string]any{"reason": p.value("status", "reason"), "message": p.value("status", "message")}}.words("the Pod failed")}
	}
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		for _, container := range p.list("status", list) {
			switch waits := container.text("state", "waiting", "reason"); waits {
			case "CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError":
				return state{failed: "container " + container.text("name") + ": " + waits}
			}
		}
	}
	if p.is("Ready", "True") {
		return state{}
	}
	return state{progressing: "the Pod is not ready"}
}

func claim(c reader) state {
	switch c.text("status", "phase") {
	case "Bound":
		return state{}
	case "Lost":
		return state{failed: "the volume that it was bound to is lost"}
	}
	return state{progressing: "it is not bound to a volume"}
}

func definition(d reader) state {
	switch {
	case d.is("NamesAccepted", "False"):
		return state{failed: d.condition("NamesAccepted").words("its names are not accepted")}
	case d.is("Established", "True"):
		return state{}
	}
	return state{progressing: "it is not established"}
}

func apiService(s reader) state {
	if s.is("Available", "True") {
		return state{}
	}
	return state{progressing: s.condition("Available").words("it is not available")}
}
