// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ignore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/client-go/util/jsonpath"
)

// byJSONPath finds places by a path in Kubernetes' syntax, with or without braces. client-go's own evaluation gives values and
// not their places, so what its parser read is said again in jq, which gives places.
func byJSONPath(ctx context.Context, object map[string]any, text string) ([]Path, error) {
	braced := strings.TrimSpace(text)
	if !strings.HasPrefix(braced, "{") {
		braced = "{" + braced + "}"
	}
	parsed, err := jsonpath.Parse("path", braced)
	if err != nil {
		return nil, fmt.Errorf("it is no JSONPath: %w", err)
	}
	if len(parsed.Root.Nodes) != 1 || parsed.Root.Nodes[0].Type() != jsonpath.NodeList {
		return nil, errors.New("it must be one JSONPath and nothing else")
	}
	list, _ := parsed.Root.Nodes[0].(*jsonpath.ListNode)
	query, err := inJQ(list)
	if err != nil {
		return nil, err
	}
	return run(ctx, object, query)
}

// inJQ says in jq what a list of steps says in JSONPath. Steps into what is not there find nothing.
func inJQ(list *jsonpath.ListNode) (string, error) {
	steps := []string{"."}
	for _, node := range list.Nodes {
		step, err := stepInJQ(node)
		if err != nil {
			return "", err
		}
		steps = append(steps, step)
	}
	return strings.Join(steps, " | "), nil
}

func stepInJQ(node jsonpath.Node) (string, error) {
	switch node := node.(type) {
	case *jsonpath.FieldNode:
		if node.Value == "" {
			return ".", nil
		}
		return ".[" + quoted(node.Value) + "]?", nil
	case *jsonpath.ArrayNode:
		return itemsInJQ(node.Params)
	case *jsonpath.WildcardNode:
		return ".[]?", nil
	case *jsonpath.RecursiveNode:
		return "..", nil
	case *jsonpath.FilterNode:
		return filterInJQ(node)
	case *jsonpath.UnionNode:
		var parts []string
		for _, part := range node.Nodes {
			query, err := inJQ(part)
			if err != nil {
				return "", err
			}
			parts = append(parts, "("+query+")")
		}
		return "(" + strings.Join(parts, ", ") + ")", nil
	}
	return "", fmt.Errorf("%s has no place in a path of fields", node)
}

// itemsInJQ says which items of a list are meant: one, a range, or all.
func itemsInJQ(params [3]jsonpath.ParamsEntry) (string, error) {
	start, end, step := params[0], params[1], params[2]
	if step.Known && step.Value != 1 {
		return "", errors.New("ranges with steps are not supported")
	}
	if end.Derived {
		return fmt.Sprintf(".[%d]?", start.Value), nil
	}
	if !start.Known && !end.Known {
		return ".[]?", nil
	}
	bounds := [2]string{}
	for i, bound := range params[:2] {
		if bound.Known {
			bounds[i] = strconv.Itoa(bound.Value)
		}
	}
	return ".[" + bounds[0] + ":" + bounds[1] + "]? | .[]?", nil
}

func filterInJQ(filter *jsonpath.FilterNode) (string, error) {
	left, err := operandInJQ(filter.Left)
	if err != nil {
		return "", err
	}
	switch filter.Operator {
	case "exists":
		return ".[]? | select((" + left + ") != null)", nil
	case "==", "!=", "<", "<=", ">", ">=":
		right, err := operandInJQ(filter.Right)
		return ".[]? | select((" + left + ") " + filter.Operator + " (" + right + "))", err
	}
	return "", fmt.Errorf("there is no operator %q", filter.Operator)
}

// operandInJQ is one side of a comparison: a literal, or a path from the item that is looked at.
func operandInJQ(list *jsonpath.ListNode) (string, error) {
	if len(list.Nodes) == 1 {
		switch literal := list.Nodes[0].(type) {
		case *jsonpath.TextNode:
			return quoted(literal.Text), nil
		case *jsonpath.IntNode:
			return strconv.Itoa(literal.Value), nil
		case *jsonpath.FloatNode:
			return strconv.FormatFloat(literal.Value, 'g', -1, 64), nil
		case *jsonpath.BoolNode:
			return strconv.FormatBool(literal.Value), nil
		}
	}
	return inJQ(list)
}

// quoted writes a text as jq reads it: as JSON, which has no interpolation if no backslash stands before a parenthesis, and
// encoding/json doubles backslashes.
func quoted(text string) string {
	encoded, err := json.Marshal(text)
	if err != nil {
		return `""` // a string encodes
	}
	return string(encoded)
}
