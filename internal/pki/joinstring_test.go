// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/pki"
)

func goodJoin() pki.JoinString {
	return pki.JoinString{
		Endpoints: []string{"hub.example:8443", "[2001:db8::1]:443"},
		CASHA256:  strings.Repeat("ab", 32),
		Token:     "k7x2m4q9tz.sekrit",
		Name:      "spoke-1",
	}
}

func TestJoinString(t *testing.T) {
	text, err := goodJoin().Encode()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(text, "flj1_"))
	require.Regexp(t, `^flj1_[A-Za-z0-9_-]+$`, text, "one word, safe in any shell")

	back, err := pki.ParseJoinString("  " + text[:40] + "\n   " + text[40:] + "\n")
	require.NoError(t, err, "a line broken by the terminal still reads")
	require.Equal(t, goodJoin(), back)

	cases := map[string]struct{ reason, text, says string }{
		"empty":         {reason: "nothing pasted", text: " \n", says: "empty"},
		"something":     {reason: "a URL", text: "https://hub.example", says: "does not begin with"},
		"newer version": {reason: "made by a later release", text: "flj2_" + text[5:], says: "another version"},
		"cut off":       {reason: "copied in part", text: text[:len(text)-3], says: "checksum"},
		"very short":    {reason: "copied in part", text: "flj1_ab", says: "copy the whole line"},
		"one character": {reason: "a typing slip", text: flip(text, 20), says: "checksum"},
		"too long":      {reason: "a file instead of a line", text: strings.Repeat("x", 100_000), says: "longer than"},
		"made up":       {reason: "a checksum is not guessed", text: "flj1_" + "e30" + "AAAAAAAA", says: "checksum"},
	}
	for name, tc := range cases {
		_, err := pki.ParseJoinString(tc.text)
		require.ErrorIs(t, err, pki.ErrJoinString, "%s: %s", name, tc.reason)
		require.ErrorContains(t, err, tc.says, "%s: %s", name, tc.reason)
		require.NotContains(t, err.Error(), "sekrit")
		require.Less(t, len(err.Error()), 1000, "%s: %s", name, tc.reason)
	}
}

func TestJoinStringRefusesBadContent(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*pki.JoinString)
		says   string
	}{
		"no endpoint":   {reason: "nowhere to go", change: func(j *pki.JoinString) { j.Endpoints = nil }, says: "0 endpoints"},
		"URL":           {reason: "not host:port", change: func(j *pki.JoinString) { j.Endpoints = []string{"https://hub:1"} }, says: "is not host:port"},
		"port":          {reason: "not a port", change: func(j *pki.JoinString) { j.Endpoints = []string{"hub:http"} }, says: "port number"},
		"CA":            {reason: "not a hash", change: func(j *pki.JoinString) { j.CASHA256 = "abc" }, says: "CA hash"},
		"token":         {reason: "no secret", change: func(j *pki.JoinString) { j.Token = "sekrit" }, says: "<id>.<secret>"},
		"cluster name":  {reason: "not a label", change: func(j *pki.JoinString) { j.Name = "Spoke_1" }, says: "Spoke_1"},
		"long endpoint": {reason: "an error is read by people", change: func(j *pki.JoinString) { j.Endpoints = []string{strings.Repeat("\xf4", 5000)} }, says: `…" is not host:port`},
		"long CA":       {reason: "an error is read by people", change: func(j *pki.JoinString) { j.CASHA256 = strings.Repeat("é", 5000) }, says: `…": want 64`},
		"long name":     {reason: "an error is read by people", change: func(j *pki.JoinString) { j.Name = strings.Repeat("\U0010ffff", 5000) }, says: "not an RFC 1123 label"},
		"far too many":  {reason: "bounded", change: func(j *pki.JoinString) { j.Endpoints = make([]string, 99) }, says: "99 endpoints"},
		"too much text": {reason: "bounded", change: func(j *pki.JoinString) { j.Token = "id." + strings.Repeat("s", 9000) }, says: "longer than"},
	}
	for name, tc := range cases {
		j := goodJoin()
		tc.change(&j)
		_, err := j.Encode()
		require.ErrorIs(t, err, pki.ErrJoinString, "%s: %s", name, tc.reason)
		require.ErrorContains(t, err, tc.says, "%s: %s", name, tc.reason)
		require.NotContains(t, err.Error(), "sekrit")
	}
}

func flip(text string, at int) string {
	b := []byte(text)
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// FuzzParseJoinString parses a text, and one whose content is that text, with a
// prefix and a checksum that are right, since no fuzzer guesses those. What
// parses means what it says and prints to what parses to the same; what does not
// parse is refused without a word of it that may be secret.
func FuzzParseJoinString(f *testing.F) {
	text, err := goodJoin().Encode()
	require.NoError(f, err)
	for _, seed := range []string{text, text[:30], "flj1_", "flj2_x", "", "flj1_AAAAAAAAAAAAAAAA"} {
		f.Add(seed)
	}
	f.Add(`{"endpoints":["hub:1"],"ca":"` + strings.Repeat("AB", 32) + `","token":"id.canary-secret","name":"c1"}`)
	f.Add(`{"endpoints":["[::1]:1","canary-secret"],"ca":"","token":"id.canary-secret"}`)
	f.Fuzz(func(t *testing.T, text string) {
		content := base64.RawURLEncoding.EncodeToString([]byte(text))
		sum := sha256.Sum256([]byte("flj1_" + content))
		for _, pasted := range []string{text, "flj1_" + content + base64.RawURLEncoding.EncodeToString(sum[:6])} {
			j, err := pki.ParseJoinString(pasted)
			if err != nil {
				require.ErrorIs(t, err, pki.ErrJoinString)
				require.Less(t, len(err.Error()), 1000, "an error is read by people")
				continue
			}
			_, err = pki.PinFromHex(j.CASHA256)
			require.NoError(t, err)
			id, secret, _ := strings.Cut(j.Token, ".")
			require.NotEmpty(t, id)
			require.NotEmpty(t, secret)
			for _, endpoint := range j.Endpoints {
				require.NoError(t, pki.ValidateEndpoint(endpoint))
			}
			again, err := j.Encode()
			require.NoError(t, err, "what parses can be printed")
			back, err := pki.ParseJoinString(again)
			require.NoError(t, err)
			require.Equal(t, j, back)
		}
	})
}
