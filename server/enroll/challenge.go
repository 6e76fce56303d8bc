// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	challengeLife   = 2 * time.Minute
	challengeSkew   = 30 * time.Second // between the clocks of two replicas
	challengeHeader = 8
	challengeLen    = challengeHeader + sha256.Size
	challengePrefix = "fairlead-challenge-v1"
)

// newChallenge makes a challenge for one enrollment: the time and a MAC over
// id and time. Any replica can check it, and nothing is kept.
func newChallenge(key []byte, id string, now time.Time) []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, challengeLen), uint64(now.UnixMilli()))
	return append(out, challengeMAC(key, id, out)...)
}

func challengeMAC(key []byte, id string, issued []byte) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s|%d|%s|", challengePrefix, len(id), id) // a hash never fails
	_, _ = mac.Write(issued)
	return mac.Sum(nil)
}

// checkChallenge refuses a challenge that the hub did not make for this
// enrollment within the last two minutes.
func checkChallenge(key []byte, id string, challenge []byte, now time.Time) error {
	if len(challenge) != challengeLen || !hmac.Equal(challengeMAC(key, id, challenge[:challengeHeader]), challenge[challengeHeader:]) {
		return refuse(reason.InvalidProof, "the challenge is not one that this hub made for that enrollment; enroll again with the same key to get one")
	}
	age := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(challenge)))) //nolint:gosec // the same 64 bits, which we made
	if age > challengeLife || age < -challengeSkew {
		return refuse(reason.InvalidProof, "the challenge is older than %v; enroll again with the same key to get a new one", challengeLife)
	}
	return nil
}
