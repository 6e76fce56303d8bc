// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wire is what hub and agent must agree on to the byte: keys,
// revisions, digests and buckets, the noise list that turns an apiserver's JSON
// into delivered bytes, parts, and size limits. Values go in and values come
// out: no clock, no network, no goroutine, so that both sides can be replayed.
package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// Sizes that bound what one message, object or status may take (PROTOCOL
// decisions 2 and 14).
const (
	// MaxFrame bounds every message on a session stream, in bytes.
	MaxFrame = 256 << 10
	// MaxPart bounds the content bytes of one part; the rest of MaxFrame is for
	// keys, digests and framing.
	MaxPart = 240 << 10
	// MinPart is where the adaptive part size starts.
	MinPart = 32 << 10
	// MaxObject bounds one object as delivered, uncompressed.
	MaxObject = 1 << 20
	// MaxStatus bounds one status, uncompressed.
	MaxStatus = 384 << 10
	// DefaultManifestLimit bounds the sum of a work's manifests (WH-16).
	DefaultManifestLimit = 512_000
	// MaxErrorMessage bounds an error text that crosses the wire (T23).
	MaxErrorMessage = 1 << 10
	// ProtocolVersion is the one that this build speaks.
	ProtocolVersion = 1
)

// TimeHeader is the header in which the hub says, with each answer to a unary call,
// what its clock says, in RFC 3339 with a fraction.
const TimeHeader = "x-hub-time"

// Kind says what an object is; its values are those of agentv1.ObjectKind.
type Kind uint8

// Kinds of objects that a session carries.
const (
	KindWork          = Kind(agentv1.ObjectKind_OBJECT_KIND_WORK)
	KindAddon         = Kind(agentv1.ObjectKind_OBJECT_KIND_ADDON)
	KindClusterConfig = Kind(agentv1.ObjectKind_OBJECT_KIND_CLUSTER_CONFIG)
)

// Key names an object within its cluster. It is comparable.
type Key struct {
	Kind Kind
	Name string
}

// String is the key as shown in logs.
func (k Key) String() string { return kindNames[k.Kind] + "/" + k.Name }

var kindNames = map[Kind]string{0: "unspecified", KindWork: "work", KindAddon: "addon", KindClusterConfig: "config"}

// Proto is the key on the wire.
func (k Key) Proto() *agentv1.ObjectKey {
	return &agentv1.ObjectKey{Kind: agentv1.ObjectKind(k.Kind), Name: k.Name}
}

// KeyOf reads a key from the wire; nil gives the zero Key. A kind out of range
// gives kind 0, which no object has.
func KeyOf(k *agentv1.ObjectKey) Key {
	kind := k.GetKind()
	if kind < 0 || kind > agentv1.ObjectKind_OBJECT_KIND_CLUSTER_CONFIG {
		kind = 0
	}
	return Key{Kind: Kind(kind), Name: k.GetName()}
}

// Digest is a SHA-256 sum.
type Digest [sha256.Size]byte

// IsZero tells an unset digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// DigestOf reads a digest from the wire; ok is false unless it has 32 bytes.
func DigestOf(b []byte) (d Digest, ok bool) {
	if len(b) != len(d) {
		return Digest{}, false
	}
	copy(d[:], b)
	return d, true
}

// Revision is one state of one object. UID is its identity: a recreated object
// of the same name is another one. ResourceVersion travels beside the digest and
// takes no part in any comparison between agent and hub.
type Revision struct {
	UID             string
	Generation      int64
	Digest          Digest
	Size            uint64
	ResourceVersion string
}

// Proto is the revision on the wire.
func (r Revision) Proto() *agentv1.Revision {
	digest := r.Digest
	return &agentv1.Revision{Uid: r.UID, Generation: r.Generation, Digest: digest[:], Size: r.Size, ResourceVersion: r.ResourceVersion}
}

// RevisionOf reads a revision from the wire; ok is false when its digest is not
// one.
func RevisionOf(r *agentv1.Revision) (rev Revision, ok bool) {
	digest, ok := DigestOf(r.GetDigest())
	return Revision{
		UID: r.GetUid(), Generation: r.GetGeneration(), Digest: digest,
		Size: r.GetSize(), ResourceVersion: r.GetResourceVersion(),
	}, ok
}

// Same tells whether two revisions are the same state of the same object.
func (r Revision) Same(o Revision) bool {
	return r.UID == o.UID && r.Generation == o.Generation && r.Digest == o.Digest
}

// HighWater is the newest resourceVersion of the hub's index, as a number
// (comparable since Kubernetes 1.35, KEP-5504), with the hub's proof.
type HighWater struct {
	ResourceVersion uint64
	Proof           []byte
}

// Proto is the mark on the wire; a zero mark is nil.
func (h HighWater) Proto() *agentv1.HighWater {
	if h.ResourceVersion == 0 {
		return nil
	}
	return &agentv1.HighWater{ResourceVersion: strconv.FormatUint(h.ResourceVersion, 10), Proof: h.Proof}
}

// HighWaterOf reads a mark from the wire; what is no number is the zero mark.
func HighWaterOf(h *agentv1.HighWater) HighWater {
	rv, err := strconv.ParseUint(h.GetResourceVersion(), 10, 64)
	if err != nil {
		return HighWater{}
	}
	return HighWater{ResourceVersion: rv, Proof: h.GetProof()}
}

// ProveHighWater makes a mark that only a holder of secret can make, so that no
// spoke can claim that the hub went back in time (PROTOCOL decision 9). The
// proof holds within scope alone: the hub-id and the hub's epoch.
func ProveHighWater(secret []byte, scope string, rv uint64) HighWater {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("fairlead-high-water-v1\n" + scope + "\n"))
	mac.Write(binary.BigEndian.AppendUint64(nil, rv))
	return HighWater{ResourceVersion: rv, Proof: mac.Sum(nil)[:16]}
}

// Proven tells whether mark was made by ProveHighWater with the same secret and
// scope.
func Proven(secret []byte, scope string, mark HighWater) bool {
	return mark.ResourceVersion != 0 && hmac.Equal(mark.Proof, ProveHighWater(secret, scope, mark.ResourceVersion).Proof)
}

// Truncate bounds an error text for the wire and marks the cut (T23). It never
// cuts within a UTF-8 character.
func Truncate(text string) string {
	const mark = "… (truncated)"
	if len(text) <= MaxErrorMessage {
		return text
	}
	return Prefix(text, MaxErrorMessage-len(mark)) + mark
}

// Prefix is what of a UTF-8 text fits into n bytes. It never cuts within a
// character, which no proto message could carry.
func Prefix(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xC0 == 0x80 {
		n--
	}
	return text[:n]
}
