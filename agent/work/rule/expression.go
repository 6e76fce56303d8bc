// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"k8s.io/apiserver/pkg/cel/library"
)

// errTime is why an expression was given up.
var errTime = fmt.Errorf("the rules of the manifest took longer than %s", maxTime)

// language returns the environment in which expressions are written: CEL, the libraries of Kubernetes that need nothing but
// values, and hasConditions.
func language() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("object", cel.DynType),
		cel.Variable("result", cel.BoolType),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.EagerlyValidateDeclarations(true),
		ext.Strings(ext.StringsVersion(0)),
		library.URLs(), library.Regex(), library.Lists(), library.Quantity(), library.IP(), library.CIDR(), library.Format(),
		library.SemverLib(library.SemverVersion(1)),
		cel.Function("hasConditions", cel.Overload("has_conditions_dyn", []*cel.Type{cel.DynType}, cel.BoolType,
			cel.OverloadIsNonStrict(), cel.UnaryBinding(hasConditions))),
	)
}

// hasConditions says whether a status has any condition. It says no where there is no status, too.
func hasConditions(status ref.Val) ref.Val {
	fields, ok := status.(traits.Mapper)
	if !ok {
		return types.False
	}
	found, ok := fields.Find(types.String("conditions"))
	if !ok {
		return types.False
	}
	list, ok := found.(traits.Lister)
	return types.Bool(ok && list.Size() != types.IntZero)
}

// expression is what became of compiling one.
type expression struct {
	program cel.Program
	err     error
}

// compile returns a program whose result is of the given type, kept from last time if it is.
func (e *Evaluator) compile(text string, want *cel.Type) (cel.Program, error) {
	key := want.String() + ":" + text
	if known, ok := e.programs.Get(key); ok {
		found, _ := known.(expression)
		return found.program, found.err
	}
	program, err := e.build(text, want)
	if len(text) <= maxExpression {
		e.programs.Add(key, expression{program, err})
	}
	return program, err
}

func (e *Evaluator) build(text string, want *cel.Type) (cel.Program, error) {
	checked, issues := e.language.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if out := checked.OutputType(); !out.IsExactType(want) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it gives %s, not %s", out, want)
	}
	if err := tame(checked); err != nil {
		return nil, err
	}
	return e.language.Program(checked, cel.EvalOptions(cel.OptTrackCost), cel.CostTracking(costs{}), cel.CostLimit(maxCost),
		cel.InterruptCheckFrequency(1), cel.CustomDecoratorV2(e.bounds))
}

// run evaluates a program.
func run(ctx context.Context, program cel.Program, vars map[string]any) (any, error) {
	if ctx.Err() != nil {
		return nil, errTime
	}
	out, _, err := program.ContextEval(ctx, vars)
	if err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(errTime, err)
		}
		return nil, err
	}
	return out.Value(), nil
}
