// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	defaultPage = 500
	maxPage     = 5000
)

// pageSize is how many items a page has at most.
func pageSize(asked int32) (int, error) {
	if asked < 0 || asked > maxPage {
		return 0, fail(codes.InvalidArgument, reason.InvalidArgument, "page_size %d is not between 0 and %d", asked, maxPage)
	}
	return int(cmp.Or(asked, defaultPage)), nil
}

// paginate cuts a list into pages in the order of key. A page token is the key
// after which the page begins, so it stays good while the list changes.
func paginate[T any](items []T, asked int32, token string, key func(T) string) (page []T, next string, err error) {
	size, err := pageSize(asked)
	if err != nil {
		return nil, "", err
	}
	sorted := slices.Clone(items)
	slices.SortFunc(sorted, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	start, found := slices.BinarySearchFunc(sorted, token, func(item T, token string) int { return strings.Compare(key(item), token) })
	if found && token != "" {
		start++
	}
	page = sorted[start:]
	if len(page) > size {
		page = page[:size]
		next = key(page[len(page)-1])
	}
	return page, next, nil
}
