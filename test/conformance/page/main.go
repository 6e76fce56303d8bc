// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command page writes docs/conformance.md from the lists of rows and the names of the tests. Run it from the root of the
// repository: go run ./test/conformance/page
package main

import (
	"fmt"
	"os"

	"fairlead.dev/fairlead/test/conformance"
)

func main() {
	page, err := conformance.Page(".")
	if err == nil {
		err = os.WriteFile(conformance.PageFile, []byte(page), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
	fmt.Println("wrote", conformance.PageFile)
}
