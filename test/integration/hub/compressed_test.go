// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/test/env"
)

// T24: what an agent compresses by gRPC is refused by every method, and not
// unpacked: 64 MiB of zeros here.
func TestT24_compressed_input_is_refused(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := plane.Unique("t24")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	var zeros bytes.Buffer
	packer := gzip.NewWriter(&zeros)
	_, err := io.CopyN(packer, endless{}, 64<<20)
	require.NoError(t, err)
	require.NoError(t, packer.Close())
	tried := 0
	for _, m := range tableMethods(t) {
		if authz.Methods()[m.Name].Listeners&authz.AgentListener == 0 {
			continue
		}
		tried++
		for _, encoding := range []string{"gzip", "zstd", "snappy", "deflate"} {
			require.Equal(t, codes.Unimplemented, agent.callCompressed(m.Name, encoding, zeros.Bytes()), "%s of %s", encoding, m.Name)
		}
		require.Equal(t, codes.Internal, agent.callCompressed(m.Name, "", zeros.Bytes()), "compressed, it does not say how: %s", m.Name)
	}
	require.GreaterOrEqual(t, tried, 5)
	agent.dial()
	agent.session(&agentv1.Hello{}) // it is served as before
	requireNoPanic(t, hub)
}

// endless is zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// callCompressed calls a method by HTTP/2 alone, since this process must not
// have what gRPC needs to compress: the hub is in it.
func (a *rawAgent) callCompressed(method, encoding string, message []byte) codes.Code {
	a.t.Helper()
	config := a.tls.TLSConfig("127.0.0.1").Clone()
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	frame := append(binary.BigEndian.AppendUint32([]byte{1}, uint32(len(message))), message...) // 1: it is compressed
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, "https://"+a.hub.addresses.Agent+method, bytes.NewReader(frame))
	require.NoError(a.t, err)
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	if encoding != "" {
		request.Header.Set("Grpc-Encoding", encoding)
	}
	response, err := transport.RoundTrip(request)
	require.NoError(a.t, err)
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(a.t, err)
	text := response.Trailer.Get("Grpc-Status") + response.Header.Get("Grpc-Status") // an error at once is a header
	code, err := strconv.Atoi(strings.TrimSpace(text))
	require.NoError(a.t, err, "%s: %v %v", method, response.Header, response.Trailer)
	return codes.Code(code)
}
