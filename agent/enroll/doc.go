// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package enroll is how an agent gets its identity and keeps it: it makes a key
// that never leaves the spoke, asks the hub to let it in, shows the pairing code
// for a person to compare, waits for the certificate, renews it in time, and
// hands out TLS configurations that follow every change (PROTOCOL c9, c10).
//
// A join string or files come in; what is learned is kept in a Vault, so that
// whatever step a crash interrupts goes on with the same key. The package does
// not know what a session is for.
package enroll
