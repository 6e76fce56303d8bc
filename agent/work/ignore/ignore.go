// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ignore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Path is the place of one value: names of fields (string) and indices of list items (int) from the top of the object.
type Path []any

// Fields are the places of what is ignored in one manifest. The zero value ignores nothing.
type Fields struct {
	present, changed []Path
	ruled            bool
}

// Ruled reports whether there is any rule, even one that fits nothing in this manifest.
func (f Fields) Ruled() bool { return f.ruled }

// Paths returns what is not to be sent to an object that exists. unchanged says that the manifest is the one sent last, which
// is when rules with condition OnSpokeChange count.
func (f Fields) Paths(unchanged bool) []Path {
	if !unchanged {
		return f.present
	}
	return slices.Concat(f.present, f.changed)
}

// Error is a rule that cannot be followed. Its text names the rule, its words and the manifest.
type Error struct {
	// Rule is the rule's place in serverSideApply, Text what it says; both are empty if the error is not one rule's.
	Rule, Text string
	// Object is the manifest.
	Object string
	cause  error
}

// Error says what is wrong.
func (e *Error) Error() string {
	if e.Rule == "" {
		return fmt.Sprintf("serverSideApply.ignoreFields of %s: %v", e.Object, e.cause)
	}
	return fmt.Sprintf("serverSideApply.%s %q of %s: %v", e.Rule, e.Text, e.Object, e.cause)
}

// Unwrap returns what is wrong with the rule.
func (e *Error) Unwrap() error { return e.cause }

// Wrap makes an Error about a manifest out of what is wrong with all of its rules.
func Wrap(manifest *unstructured.Unstructured, cause error) *Error {
	object := fmt.Sprintf("%s %q", manifest.GetKind(), manifest.GetName())
	if ns := manifest.GetNamespace(); ns != "" {
		object = fmt.Sprintf("%s %q", manifest.GetKind(), ns+"/"+manifest.GetName())
	}
	return &Error{Object: object, cause: cause}
}

// Find returns what the rules ignore in the manifest. A place that the manifest does not have is not in the result and is no
// error. The manifest is not changed. It takes a second per jq expression at most; every error but the end of ctx is an *Error.
func Find(ctx context.Context, manifest *unstructured.Unstructured, rules []workv1.IgnoreField) (Fields, error) {
	found := Fields{ruled: len(rules) > 0}
	for i, rule := range rules {
		into := &found.present
		switch rule.Condition {
		case workv1.IgnoreFieldsConditionOnSpokePresent, "":
		case workv1.IgnoreFieldsConditionOnSpokeChange:
			into = &found.changed
		default:
			return Fields{}, failure(manifest, fmt.Sprintf("ignoreFields[%d].condition", i), string(rule.Condition), errors.New("there is no such condition"))
		}
		paths, err := follow(ctx, manifest, i, rule)
		if err != nil {
			return Fields{}, err
		}
		*into = append(*into, paths...)
	}
	return found, nil
}

// follow returns what one rule, the i-th, ignores.
func follow(ctx context.Context, manifest *unstructured.Unstructured, i int, rule workv1.IgnoreField) ([]Path, error) {
	var found []Path
	for _, language := range languages(rule) {
		for j, text := range language.texts {
			paths, err := language.find(ctx, manifest.Object, text)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err := cmp.Or(err, harmless(paths)); err != nil {
				return nil, failure(manifest, fmt.Sprintf("ignoreFields[%d].%s[%d]", i, language.name, j), text, err)
			}
			found = append(found, paths...)
		}
	}
	return found, nil
}

func failure(manifest *unstructured.Unstructured, rule, text string, cause error) error {
	err := Wrap(manifest, cause)
	err.Rule, err.Text = rule, text
	return err
}

type language struct {
	name  string
	texts []string
	find  func(ctx context.Context, object map[string]any, text string) ([]Path, error)
}

func languages(rule workv1.IgnoreField) []language {
	return []language{
		{name: "jsonPaths", texts: rule.JSONPaths, find: byJSONPath},
		{name: "jsonPointers", texts: rule.JSONPointers, find: byPointer},
		{name: "jqPathExpressions", texts: rule.JQPathExpressions, find: byJQ},
	}
}

// harmless refuses places without which an object is no object, or another one.
func harmless(paths []Path) error {
	for _, path := range paths {
		switch {
		case len(path) == 0:
			return errors.New("it stands for the whole object")
		case path[0] == "apiVersion", path[0] == "kind", path[0] == "metadata" && len(path) == 1,
			path[0] == "metadata" && (path[1] == "name" || path[1] == "namespace"):
			return fmt.Errorf("%s says which object it is and cannot be ignored", path)
		}
	}
	return nil
}

// String writes the path as people write it.
func (p Path) String() string {
	var text strings.Builder
	for _, element := range p {
		if index, ok := element.(int); ok {
			fmt.Fprintf(&text, "[%d]", index)
			continue
		}
		fmt.Fprintf(&text, ".%v", element)
	}
	return text.String()
}

// byPointer reads a JSON pointer (RFC 6901).
func byPointer(_ context.Context, object map[string]any, text string) ([]Path, error) {
	if text != "" && !strings.HasPrefix(text, "/") {
		return nil, errors.New("a JSON pointer begins with a slash")
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	var path Path
	at := any(object)
	for i, token := range strings.Split(text, "/") {
		if i == 0 {
			continue // what is before the first slash
		}
		if rest := strings.NewReplacer("~0", "", "~1", "").Replace(token); strings.Contains(rest, "~") {
			return nil, errors.New("in a JSON pointer ~ must be followed by 0 or 1")
		}
		element := any(unescape.Replace(token))
		if _, isList := at.([]any); isList {
			index, _ := strconv.Atoi(token)
			if strconv.Itoa(index) != token {
				return nil, nil // no item of a list
			}
			element = index
		}
		below, ok := descend(at, element)
		if !ok {
			return nil, nil
		}
		at, path = below, append(path, element)
	}
	return []Path{path}, nil
}

// descend returns what is at one element below a value.
func descend(at, element any) (any, bool) {
	switch key := element.(type) {
	case string:
		fields, _ := at.(map[string]any)
		below, ok := fields[key]
		return below, ok
	case int:
		items, _ := at.([]any)
		if key >= 0 && key < len(items) {
			return items[key], true
		}
	}
	return nil, false
}

// Without returns object without what is at the paths, and without maps and lists that had nothing else in them. What is not
// affected is shared with object, which is not changed.
func Without(object map[string]any, paths []Path) map[string]any {
	if len(paths) == 0 {
		return object
	}
	pruned, _ := prune(object, paths).(map[string]any)
	if pruned == nil {
		return map[string]any{}
	}
	return pruned
}

// prune returns value without the paths, which begin in it; nil if nothing is left.
func prune(value any, paths []Path) any {
	gone, below := map[any]bool{}, map[any][]Path{}
	for _, path := range paths {
		if len(path) == 1 {
			gone[path[0]] = true
			continue
		}
		below[path[0]] = append(below[path[0]], path[1:])
	}
	for element, further := range below {
		if inner, ok := descend(value, element); ok && !gone[element] {
			left := prune(inner, further)
			gone[element] = left == nil
			value = with(value, element, left)
		}
	}
	switch v := value.(type) {
	case map[string]any:
		kept := maps.Clone(v)
		maps.DeleteFunc(kept, func(key string, _ any) bool { return gone[key] })
		if len(kept) == 0 && len(v) > 0 {
			return nil
		}
		return kept
	case []any:
		var kept []any
		for i, item := range v {
			if !gone[i] {
				kept = append(kept, item)
			}
		}
		if len(kept) == 0 && len(v) > 0 {
			return nil
		}
		return kept
	}
	return value
}

// with returns a copy of value that has below at element.
func with(value, element, below any) any {
	switch v := value.(type) {
	case map[string]any:
		v = maps.Clone(v)
		if key, ok := element.(string); ok {
			v[key] = below
		}
		return v
	case []any:
		v = slices.Clone(v)
		if index, ok := element.(int); ok {
			v[index] = below
		}
		return v
	}
	return value
}

// unique drops places that were found twice.
func unique(paths []Path) []Path {
	slices.SortFunc(paths, func(a, b Path) int { return cmp.Compare(a.String(), b.String()) })
	return slices.CompactFunc(paths, slices.Equal[Path])
}
