// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutants removes, one at a time, each guard that keeps data or secrets
// safe, and runs the tests that are to notice. In comes the list of guards in
// this folder; out goes a line for each: the test that turned red, or SURVIVED.
// It fails if a guard can be removed unnoticed, or if a place is not in the code
// any more. No source is touched: Go builds with an overlay. (Random tests that
// turn red leave a file in testdata/rapid, which git ignores.)
package main
