// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// What the rules of one manifest may cost. CEL counts the cost of a call after it, so the size of every value that an
// expression can get hold of is bounded, too: by induction no single call is expensive. Texts of the object that are longer than
// maxText are cut before an expression sees them; longer ones cannot be made. Lists and maps, counted as if nothing in them were
// shared, weigh maxCost at most. Patterns are literals, since nothing else bounds them.
const (
	maxTime        = time.Second // for all rules of a manifest
	maxCost        = 500_000     // of one expression: some steps, 16 bytes or an element each
	maxText        = 8 << 10
	maxExpression  = 8 << 10
	maxExpressions = 64
	maxPattern     = 1000 // instructions
	maxPrograms    = 1000 // that are kept compiled
	maxNumber      = 100  // characters of a quantity's text, and its exponent

	bytesPerUnit = 16
)

// weight is the size of a value in units, not more than a little over left.
func weight(value ref.Val, left int) int {
	switch v := value.(type) {
	case types.String:
		return 1 + len(v)/bytesPerUnit
	case types.Bytes:
		return 1 + len(v)/bytesPerUnit
	case *types.Optional:
		if v.HasValue() {
			return 1 + weight(v.GetValue(), left)
		}
	case traits.Mapper:
		total := 1
		for it := v.Iterator(); total <= left && it.HasNext() == types.True; {
			key := it.Next()
			total += weight(key, left-total)
			if below, ok := v.Find(key); ok {
				total += weight(below, left-total)
			}
		}
		return total
	case traits.Lister:
		total := 1
		for it := v.Iterator(); total <= left && it.HasNext() == types.True; {
			total += weight(it.Next(), left-total)
		}
		return total
	}
	return 1
}

// costs is the cost of calls, by what they read and what they make.
type costs struct{}

// CallCost implements interpreter.ActualCostEstimator.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	units := 1
	switch function {
	case operators.Index, "size":
	case operators.Add: // joined lists are not copied: what is added counts
		units += weight(args[len(args)-1], maxCost)
	default:
		for _, arg := range args {
			units += weight(arg, maxCost)
		}
		units += searching(function, args)
	}
	if length(result) > maxText {
		units = 2 * maxCost
	}
	cost := uint64(units)
	return &cost
}

// searching is what it costs beyond reading them to search one text in another.
func searching(function string, args []ref.Val) int {
	switch function {
	case "matches", "find", "findAll":
		return maxPattern + length(args[0])
	}
	if len(args) < 2 {
		return 0
	}
	return length(args[0]) * length(args[1]) / 1024
}

func length(value ref.Val) int {
	switch v := value.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	}
	return 0
}

// bounded is a list or map that an expression spells out, which can hold one value many times over.
type bounded struct {
	interpreter.InterpretableConstructor
}

// Exec implements interpreter.InterpretableV2.
func (b bounded) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return b.check(b.InterpretableConstructor.Exec(frame))
}

// Eval implements interpreter.Interpretable.
func (b bounded) Eval(vars interpreter.Activation) ref.Val {
	return b.check(b.InterpretableConstructor.Eval(vars))
}

func (b bounded) check(made ref.Val) ref.Val {
	if weight(made, maxCost) > maxCost {
		return types.NewErr("a list or map is larger than rules may make")
	}
	return made
}

// bound is the decorator that makes lists and maps bounded.
func bound(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	if made, ok := i.(interpreter.InterpretableConstructor); ok {
		return bounded{made}, nil
	}
	return i, nil
}

// withBounds returns the decorator that keeps what one step makes within bounds.
func withBounds(language *cel.Env) (interpreter.InterpretableDecoratorV2, error) {
	quantities := map[string]functions.UnaryOp{}
	for _, name := range []string{"quantity", "isQuantity"} {
		bindings, err := language.Functions()[name].Bindings()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, b := range bindings {
			if b.Unary != nil {
				quantities[name] = b.Unary
			}
		}
		if quantities[name] == nil {
			return nil, fmt.Errorf("%s is not a function of one text", name)
		}
	}
	return func(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		call, ok := step.(interpreter.InterpretableCall)
		if !ok || quantities[call.Function()] == nil {
			return bound(step)
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
			if text, ok := args[0].(types.String); ok && huge(string(text)) {
				return types.NewErr("a quantity is longer, or has a larger exponent, than %d", maxNumber)
			}
			return quantities[call.Function()](args[0])
		}), nil
	}, nil
}

// huge says whether it takes long to count with a quantity: 1e100000000 has as many digits.
func huge(text string) bool {
	exponent, err := strconv.Atoi(text[strings.LastIndexAny(text, "eE")+1:])
	return len(text) > maxNumber || strings.ContainsAny(text, "eE") && err == nil && (exponent > maxNumber || exponent < -maxNumber)
}

// tame returns what is wrong with an expression that compiles.
func tame(checked *cel.Ast) error {
	root := ast.NavigateAST(checked.NativeRep())
	if len(ast.MatchDescendants(root, ast.FunctionMatcher("join"))) > 0 {
		return errors.New("join is not supported in rules")
	}
	for _, function := range []string{"matches", "find", "findAll"} {
		for _, found := range ast.MatchDescendants(root, ast.FunctionMatcher(function)) {
			call := found.AsCall()
			at := 0
			if !call.IsMemberFunction() {
				at = 1
			}
			if err := tamePattern(call.Args()[at]); err != nil {
				return fmt.Errorf("%s: %w", function, err)
			}
		}
	}
	return nil
}

func tamePattern(arg ast.Expr) error {
	if arg.Kind() != ast.LiteralKind {
		return errors.New("a pattern must be a literal text")
	}
	text, ok := arg.AsLiteral().Value().(string)
	if !ok {
		return errors.New("a pattern must be a literal text")
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return err
	}
	compiled, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return err
	}
	if len(compiled.Inst) > maxPattern {
		return fmt.Errorf("the pattern has %d instructions, at most %d are possible", len(compiled.Inst), maxPattern)
	}
	return nil
}

// cut returns value with no text longer than maxText, and whether that is another value. What is changed is copied.
func cut(value any) (any, bool) {
	changed := false
	switch v := value.(type) {
	case string:
		if len(v) > maxText {
			return strings.ToValidUTF8(v[:maxText], ""), true
		}
	case []any:
		copied := make([]any, len(v))
		for i, item := range v {
			shorter, shortened := cut(item)
			copied[i], changed = shorter, changed || shortened
		}
		if changed {
			return copied, true
		}
	case map[string]any:
		copied := make(map[string]any, len(v))
		for key, item := range v {
			shorter, shortened := cut(item)
			changed = changed || shortened || len(key) > maxText
			if len(key) <= maxText {
				copied[key] = shorter
			}
		}
		if changed {
			return copied, true
		}
	}
	return value, false
}
