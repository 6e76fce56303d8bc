// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"fairlead.dev/fairlead/internal/identity"
)

// ErrJoinString is wrapped by every error about a join string.
var ErrJoinString = errors.New("invalid join string")

const (
	joinPrefix       = "flj1_"
	joinFamily       = "flj"
	maxJoinString    = 8 << 10
	maxEndpoints     = 16
	checksumBytes    = 6 // 8 characters of base64
	checksumLen      = 8
	joinStringSource = "ask the hub's admin for a new one (`fairlead token create`)"
)

// JoinString is the one line that a spoke's admin needs: where the hub is, how
// to recognise it, and the token that lets one request in. All of it is a hint
// to the agent; what the token allows is decided by the hub's own record of it.
type JoinString struct {
	// Endpoints are host:port of the agent listener, tried in order.
	Endpoints []string `json:"endpoints"`
	// CASHA256 is the SHA-256 of the hub's root certificate (DER), in hex.
	CASHA256 string `json:"ca"`
	// Token is <id>.<secret>.
	Token string `json:"token"`
	// Name is the cluster name that the token is meant for; may be empty.
	Name string `json:"name,omitempty"`
}

// Encode prints the join string. It refuses what ParseJoinString would refuse.
func (j JoinString) Encode() (string, error) {
	if err := j.validate(); err != nil {
		return "", err
	}
	content, err := json.Marshal(j)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrJoinString, err)
	}
	text := base64.RawURLEncoding.EncodeToString(content)
	if len(joinPrefix)+len(text)+checksumLen > maxJoinString {
		return "", joinError("it would be longer than %d characters; give fewer endpoints", maxJoinString)
	}
	return joinPrefix + text + joinChecksum(text), nil
}

// ParseJoinString reads a join string, as pasted: line breaks and spaces that a
// terminal put into it do not matter. Errors say what is wrong and never repeat
// the token.
func ParseJoinString(pasted string) (JoinString, error) {
	text, err := joinText(pasted)
	if err != nil {
		return JoinString{}, err
	}
	content, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return JoinString{}, joinError("its content is not base64url; %s", joinStringSource)
	}
	var j JoinString
	if err := json.Unmarshal(content, &j); err != nil {
		return JoinString{}, joinError("its content is not the JSON that a hub makes; %s", joinStringSource)
	}
	if err := j.validate(); err != nil {
		return JoinString{}, err
	}
	return j, nil
}

// joinText returns the base64 between prefix and checksum.
func joinText(pasted string) (string, error) {
	if len(pasted) > 2*maxJoinString {
		return "", joinError("it is longer than %d characters", maxJoinString)
	}
	text := strings.Join(strings.Fields(pasted), "")
	if text == "" {
		return "", joinError("it is empty; %s", joinStringSource)
	}
	rest, ok := strings.CutPrefix(text, joinPrefix)
	if !ok && strings.HasPrefix(text, joinFamily) {
		return "", joinError("it is of another version than %q; use the `fairlead` and agent release of that hub", joinPrefix)
	}
	if !ok {
		return "", joinError("it does not begin with %q; copy the whole line", joinPrefix)
	}
	if len(rest) <= checksumLen || len(text) > maxJoinString {
		return "", joinError("it has %d characters, which cannot be; copy the whole line", len(text))
	}
	content, sum := rest[:len(rest)-checksumLen], rest[len(rest)-checksumLen:]
	if joinChecksum(content) != sum {
		return "", joinError("its checksum does not match: a character was lost or changed; copy the whole line")
	}
	return content, nil
}

func (j JoinString) validate() error {
	if len(j.Endpoints) == 0 || len(j.Endpoints) > maxEndpoints {
		return joinError("it has %d endpoints, want 1 to %d", len(j.Endpoints), maxEndpoints)
	}
	for _, endpoint := range j.Endpoints {
		if err := ValidateEndpoint(endpoint); err != nil {
			return joinError("%v", err)
		}
	}
	if _, err := PinFromHex(j.CASHA256); err != nil {
		return joinError("%v", err)
	}
	id, secret, ok := strings.Cut(j.Token, ".")
	if !ok || id == "" || secret == "" || strings.ContainsAny(j.Token, " \t\r\n") {
		return joinError("its token is not <id>.<secret>; %s", joinStringSource)
	}
	if j.Name == "" {
		return nil
	}
	if err := identity.ValidateClusterName(j.Name); err != nil {
		return joinError("%v", err)
	}
	return nil
}

// ValidateEndpoint says why an endpoint is not host:port.
func ValidateEndpoint(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" || strings.ContainsAny(host, "/@? \t\r\n") {
		return fmt.Errorf("endpoint %s is not host:port", identity.Quoted(endpoint))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("endpoint %s: %s is not a port number", identity.Quoted(endpoint), identity.Quoted(port))
	}
	return nil
}

func joinChecksum(text string) string {
	sum := sha256.Sum256([]byte(joinPrefix + text))
	return base64.RawURLEncoding.EncodeToString(sum[:checksumBytes])
}

func joinError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrJoinString}, args...)...)
}
