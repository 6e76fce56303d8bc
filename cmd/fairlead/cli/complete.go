// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// completionTimeout is how long a shell is kept waiting for names.
const completionTimeout = 3 * time.Second

// Names lists what the hub knows, for completion. Args are those given already.
type Names func(ctx context.Context, hub *Hub, args []string) ([]string, error)

// Complete offers live names for the first arguments, one list for each. A hub
// that does not answer offers none.
func (o *Options) Complete(lists ...Names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(lists) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return o.names(cmd.Context(), lists[len(args)], args)
	}
}

// CompleteFlag offers live names for a flag; with commas it is a list.
func (o *Options) CompleteFlag(cmd *cobra.Command, flag string, list Names) {
	complete := func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names, directive := o.names(cmd.Context(), list, args)
		done := typed[:strings.LastIndex(typed, ",")+1]
		given := strings.Split(done, ",")
		var out []cobra.Completion
		for _, name := range names {
			if !slices.Contains(given, name) {
				out = append(out, done+name)
			}
		}
		return out, directive
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // only a flag that the command does not have gets here, and then every test does
	}
}

func (o *Options) names(ctx context.Context, list Names, args []string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	silent := *o
	silent.Err = discard{}
	hub, err := silent.Dial(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := list(ctx, hub, args)
	if err := errors.Join(err, hub.Close()); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// discard is where notes go while a shell waits for names.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// ClusterNames lists clusters.
func ClusterNames(ctx context.Context, hub *Hub, _ []string) ([]string, error) {
	all, err := Pages(func(token string) ([]*adminv1.ClusterInfo, string, error) {
		answer, err := hub.Clusters.ListClusters(ctx, &adminv1.ListClustersRequest{PageToken: token})
		return answer.GetClusters(), answer.GetNextPageToken(), err
	})
	return NamesOf(all, (*adminv1.ClusterInfo).GetName), err
}

// NamesOf is the name of each item, each once, in the order of the items.
func NamesOf[T any](items []T, name func(T) string) []string {
	seen := map[string]bool{}
	var names []string
	for _, item := range items {
		if n := name(item); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// Pages collects all pages of a list.
func Pages[T any](page func(token string) (items []T, next string, err error)) ([]T, error) {
	var all []T
	for token := ""; ; {
		items, next, err := page(token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if token = next; token == "" {
			return all, nil
		}
	}
}
