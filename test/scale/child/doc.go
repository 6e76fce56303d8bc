// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package child runs the parts of a measurement in processes of their own, so
// that each one's CPU and memory are its own. Parent and child talk in lines of
// JSON over the child's standard input and output, one request at a time. A
// child ends when its standard input does, that is, with its parent.
package child
