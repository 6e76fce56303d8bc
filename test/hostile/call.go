// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// Method is one method of a server.
type Method struct {
	Name                         string // "/package.Service/Method"
	ClientStreams, ServerStreams bool
	Input                        protoreflect.MessageDescriptor
}

// Methods are all methods of these services, sorted by name.
func Methods(services map[string]grpc.ServiceInfo) ([]Method, error) {
	var methods []Method
	for name := range services {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		service, ok := found.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("%s is no service", name)
		}
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			methods = append(methods, Method{
				Name:          fmt.Sprintf("/%s/%s", name, m.Name()),
				ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(), Input: m.Input(),
			})
		}
	}
	slices.SortFunc(methods, func(a, b Method) int { return strings.Compare(a.Name, b.Name) })
	return methods, nil
}

// Call sends requests and returns what the call ended with; nil is success. A
// method that takes one request is sent the first of them. A method that takes
// many is read until it ends, any other until its first answer.
func Call(ctx context.Context, conn grpc.ClientConnInterface, m Method, requests [][]byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, m.Name, grpc.ForceCodecV2(asBytes{}))
	if err != nil {
		return err
	}
	if !m.ClientStreams {
		requests = append(requests, nil)[:1]
	}
	for _, request := range requests {
		if err := stream.SendMsg(&request); err != nil {
			break // RecvMsg says why
		}
	}
	_ = stream.CloseSend()
	for {
		var answer []byte
		err := stream.RecvMsg(&answer)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.ServerStreams && !m.ClientStreams:
			return nil
		}
	}
}

// asBytes is a codec of messages that are bytes already.
type asBytes struct{}

// Marshal implements encoding.CodecV2.
func (asBytes) Marshal(v any) (mem.BufferSlice, error) {
	raw, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*raw)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (asBytes) Unmarshal(data mem.BufferSlice, v any) error {
	raw, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not *[]byte", v)
	}
	*raw = data.Materialize()
	return nil
}

// Name implements encoding.CodecV2: the server's own codec takes the bytes.
func (asBytes) Name() string { return "proto" }

// Fault tells what is wrong with an error that a call ended with: nil if a
// server of ours may answer that. It may refuse whatever it wants to, if it says
// why with a code and a reason of ours; it may not have failed. Bytes that are no
// message of the method, or too many, are the exception: gRPC itself answers
// them, whatever the handler says.
func (m Method) Fault(err error) error {
	st := status.Convert(err)
	switch {
	case st.Code() == codes.OK,
		st.Code() == codes.Internal && strings.HasPrefix(st.Message(), "grpc: failed to unmarshal"),
		st.Code() == codes.ResourceExhausted && strings.HasPrefix(st.Message(), "grpc: received message larger than max"):
		return nil
	case st.Code() == codes.Internal, st.Code() == codes.Unknown, st.Code() == codes.DataLoss:
		return fmt.Errorf("%s failed: %w", m.Name, err)
	}
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == reason.Domain && info.GetReason() != "" {
			return nil
		}
	}
	return fmt.Errorf("%s gave no reason: %w", m.Name, err)
}
