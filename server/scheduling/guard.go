// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// matchesLiteral is matches with a pattern that is compiled already. It has a name of
// its own since CEL would compile the pattern of matches as well, and call that.
const matchesLiteral = "matches@literal"

// guard has calls run only if their price is within the limit.
type guard map[string]functions.FunctionOp // by overload and by function

// newGuard knows all functions of an environment but those that are not strict, which
// cost nothing. Their implementations are what CEL would call.
func newGuard(env *cel.Env) (guard, error) {
	known := guard{
		operators.Equals:    func(args ...ref.Val) ref.Val { return types.Equal(args[0], args[1]) },
		operators.NotEquals: func(args ...ref.Val) ref.Val { return types.Bool(types.Equal(args[0], args[1]) != types.True) },
	}
	for name, function := range env.Functions() {
		bindings, err := function.Bindings()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, b := range bindings {
			if _, ok := known[b.Operator]; !ok && !b.NonStrict {
				known[b.Operator] = implementation(name, b)
			}
		}
	}
	return known, nil
}

// implementation calls what is bound to a function, if the first argument can be called so.
func implementation(name string, bound *functions.Overload) functions.FunctionOp {
	return func(args ...ref.Val) ref.Val {
		able := bound.OperandTrait == 0 || args[0].Type().HasTrait(bound.OperandTrait)
		switch {
		case able && len(args) == 1 && bound.Unary != nil:
			return bound.Unary(args[0])
		case able && len(args) == 2 && bound.Binary != nil:
			return bound.Binary(args[0], args[1])
		case able && bound.Function != nil:
			return bound.Function(args...)
		}
		if receiver, ok := args[0].(traits.Receiver); ok {
			return receiver.Receive(name, bound.Operator, args[1:])
		}
		return types.NewErr("no such overload: %s", name)
	}
}

// decorate replaces a call by one that is guarded.
func (g guard) decorate(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := step.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) == 0 {
		return step, nil
	}
	function, run := call.Function(), g[call.OverloadID()]
	if run == nil {
		run = g[function]
	}
	if run == nil {
		return step, nil
	}
	overload := call.OverloadID()
	if strings.HasPrefix(overload, "list") { // CEL's own cost, which is less than the price, goes by it
		overload = ""
	}
	if pattern, ok := call.Args()[len(call.Args())-1].(interpreter.InterpretableConst); ok && function == "matches" {
		compiled, err := regexp.Compile(text(pattern.Value()))
		if err != nil {
			return nil, err
		}
		overload = ""
		function, run = matchesLiteral, func(args ...ref.Val) ref.Val {
			in, ok := args[0].(types.String)
			if !ok {
				return types.MaybeNoSuchOverloadErr(args[0])
			}
			return types.Bool(compiled.MatchString(string(in)))
		}
	}
	return interpreter.NewCall(call.ID(), function, overload, call.Args(), func(args ...ref.Val) ref.Val {
		if price(function, args) > costPerCall {
			return types.NewErr("%s would cost more than %d", function, costPerCall)
		}
		return run(args...)
	}), nil
}

// checkPatterns looks for patterns that are too large even to be compiled.
func checkPatterns(parsed *cel.Ast) error {
	root := ast.NavigateAST(parsed.NativeRep())
	for _, literal := range ast.MatchDescendants(root, ast.KindMatcher(ast.LiteralKind)) {
		parent, ok := literal.Parent()
		if !ok || parent.Kind() != ast.CallKind {
			continue
		}
		switch parent.AsCall().FunctionName() {
		case "matches", "find", "findAll":
			if n := instructions(text(literal.AsLiteral())); n > maxPattern {
				return fmt.Errorf("a pattern has %d instructions, at most %d are possible", n, maxPattern)
			}
		}
	}
	return nil
}
