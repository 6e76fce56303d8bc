// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/cel/library"
)

// Limits of evaluation, in CEL's units of cost, as Kubernetes has them (PL-21).
const (
	// costPerCall is for one expression on one cluster: a tenth of a second, or a
	// quarter for empty loops. Nothing else is decided meanwhile.
	costPerCall = 1_000_000
	// timePerCall is for the same: to go through one list of tens of thousands takes
	// CEL much longer than it counts.
	timePerCall = 5 * time.Second
	// costPerCluster is for all expressions of a placement on one cluster. It is
	// counted by cluster, so that no cluster depends on how many others there are.
	costPerCluster = 10_000_000
	// costPerPlacement is for all clusters that a placement can choose from, some
	// ten seconds. A placement that costs more is not decided: it keeps what it has.
	costPerPlacement = 100_000_000
	// costToEnter is added for each expression and cluster, as to begin takes time
	// as well: many that do nothing are not free.
	costToEnter = 50
	// costAtOnce is what a cluster may have cost that is filtered as soon as it
	// changes, about a millisecond. Dearer ones wait until the placement is decided.
	costAtOnce = 10_000
)

// variable is what expressions see.
const variable = "managedCluster"

// compiler makes expressions.
type compiler struct {
	env   *cel.Env
	guard guard
}

// expression is an entry of celExpressions, compiled.
type expression struct {
	text        string
	program     cel.Program
	readsScores bool
}

// newCompiler has the libraries that CEL has in Kubernetes (PL-19), and two
// functions of placements: parseJSON() of a string, and scores() of the cluster.
func newCompiler() (*compiler, error) {
	env, err := cel.NewEnv(
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(),
		cel.CostEstimatorOptions(checker.PresenceTestHasCost(false)),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(), cel.ValidateHomogeneousAggregateLiterals()),
		ext.Strings(ext.StringsVersion(2), ext.StringsMaxPrecision(maxNumber)), ext.Sets(), ext.Lists(ext.ListsVersion(3)), ext.TwoVarComprehensions(),
		library.URLs(), library.Regex(), library.Lists(library.ListsVersion(1)), library.Quantity(), library.IP(), library.CIDR(), library.Format(),
		library.SemverLib(library.SemverVersion(1)),
		cel.Variable(variable, cel.DynType),
		cel.Function("parseJSON", cel.MemberOverload("string_parse_json", []*cel.Type{cel.StringType}, cel.DynType, cel.UnaryBinding(parseJSON))),
		cel.Function("scores", cel.MemberOverload("managed_cluster_scores", []*cel.Type{cel.DynType, cel.StringType},
			cel.ListType(cel.MapType(cel.StringType, cel.DynType)), cel.BinaryBinding(scoresOf))),
	)
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment of placements: %w", err)
	}
	guard, err := newGuard(env)
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment of placements: %w", err)
	}
	return &compiler{env: env, guard: guard}, nil
}

func (c *compiler) compile(text string) (*expression, error) {
	parsed, issues := c.env.Parse(text)
	if issues.Err() == nil {
		if err := checkPatterns(parsed); err != nil {
			return nil, fmt.Errorf("%q does not compile: %w", text, err)
		}
	}
	checked, issues := c.env.Compile(text)
	if issues.Err() != nil {
		var found []string
		for _, issue := range issues.Errors() {
			found = append(found, fmt.Sprintf("%s (line %d, column %d)", issue.Message, issue.Location.Line(), issue.Location.Column()+1))
		}
		return nil, fmt.Errorf("%q does not compile: %s", text, strings.Join(found, "; "))
	}
	if !checked.OutputType().IsAssignableType(cel.BoolType) {
		return nil, fmt.Errorf("%q gives %s: want bool", text, cel.FormatCELType(checked.OutputType()))
	}
	program, err := c.env.Program(
		checked,
		cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost), cel.CostLimit(costPerCall),
		cel.CostTrackerOptions(interpreter.PresenceTestHasCost(false)), cel.CostTracking(&costs{}), cel.CustomDecoratorV2(c.guard.decorate), cel.InterruptCheckFrequency(100),
	)
	if err != nil {
		return nil, fmt.Errorf("%q cannot be run: %w", text, err)
	}
	calls := ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), ast.FunctionMatcher("scores"))
	return &expression{text: text, program: program, readsScores: len(calls) > 0}, nil
}

// look is one look at a cluster, which may take several turns: what expressions said
// in earlier ones is known. Its cluster must not change in between.
type look struct {
	cost   int64    // so far, of all turns
	turn   int64    // what may still be spent in this turn
	known  []result // of the expressions that were evaluated, in their order
	next   int      // of known
	paused bool     // the turn was over before all was known
}

// result is what became of one expression, with its cost.
type result struct {
	ok   bool
	cost int64
	err  error
}

// evaluate says whether all expressions of a predicate are true of a cluster,
// and why not: the first that is not, or that fails or costs too much (PL-20).
func (w *World) evaluate(p *predicate, c *cluster, l *look) (ok bool, why func() string) {
	for i, e := range p.expressions {
		if l.cost > costPerCluster { // an earlier predicate has spent it
			return false, func() string { return fmt.Sprintf("celExpressions[%d] %q fails: %v", i, e.text, errBudget) }
		}
		r, known := w.result(e, c, l)
		if !known {
			return false, func() string { return "it is not known yet" }
		}
		l.cost += r.cost
		err := r.err
		if err == nil && l.cost > costPerCluster {
			err = errBudget
		}
		switch {
		case err != nil:
			return false, func() string { return fmt.Sprintf("celExpressions[%d] %q fails: %v", i, e.text, err) }
		case !r.ok:
			return false, func() string { return fmt.Sprintf("celExpressions[%d] %q is false", i, e.text) }
		}
	}
	return true, nil
}

// result evaluates the next expression of a look, unless an earlier turn did, or
// this one is over.
func (w *World) result(e *expression, c *cluster, l *look) (r result, known bool) {
	switch {
	case l.next < len(l.known):
	case l.turn < 0:
		l.paused = true
		return result{}, false
	default:
		done := w.observer.CEL()
		r.ok, r.cost, r.err = e.holds(w.see(c))
		done()
		r.cost += costToEnter
		l.turn -= r.cost
		l.known = append(l.known, r)
	}
	l.next++
	return l.known[l.next-1], true
}

var errTime = fmt.Errorf("it takes longer than %s", timePerCall)

var errBudget = fmt.Errorf("all expressions together cost more than %d", costPerCluster)

// holds evaluates it for one cluster. Whoever asks waits for the end of one expression.
//
//nolint:contextcheck,nolintlint // its time is its own, so that nobody's cancelled call decides on a cluster
func (e *expression) holds(seen ref.Val) (ok bool, cost int64, err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), timePerCall, errTime)
	defer cancel()
	result, details, err := e.program.ContextEval(ctx, map[string]any{variable: seen})
	if details != nil && details.ActualCost() != nil {
		cost = int64(min(*details.ActualCost(), costPerCluster))
	}
	if err != nil && ctx.Err() != nil {
		return false, costPerCall, errTime
	}
	if err != nil {
		return false, cost, err
	}
	value, isBool := result.Value().(bool)
	if !isBool {
		return false, cost, fmt.Errorf("it gives %s: want bool", result.Type().TypeName())
	}
	return value, cost, nil
}

// clusterVal is a ManagedCluster in CEL: a map of its JSON that also knows whose
// it is, so that scores() answers for the cluster at hand and for no other.
type clusterVal struct {
	traits.Mapper
	scores func(name string) (*addOnScore, bool)
}

// see makes of a cluster what CEL sees.
func (w *World) see(c *cluster) ref.Val {
	if c.seen != nil {
		return c.seen
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.object)
	if err != nil {
		return types.NewErr("ManagedCluster %q cannot be read: %v", c.name, err)
	}
	content["apiVersion"], content["kind"] = "cluster.open-cluster-management.io/v1", "ManagedCluster"
	c.seen = &clusterVal{
		Mapper: types.NewStringInterfaceMap(types.DefaultTypeAdapter, content),
		scores: func(name string) (*addOnScore, bool) {
			s, ok := w.scores[c.name][name]
			return s, ok
		},
	}
	return c.seen
}

func scoresOf(target, name ref.Val) ref.Val {
	of, ok := target.(*clusterVal)
	if !ok {
		return types.NewErr("scores() is a function of %s", variable)
	}
	text, ok := name.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(name)
	}
	found, ok := of.scores(string(text))
	if !ok {
		return types.NewErr("the cluster has no AddOnPlacementScore %q", string(text))
	}
	items := make([]map[string]any, 0, len(found.object.Status.Scores))
	for _, item := range found.object.Status.Scores {
		items = append(items, map[string]any{"name": item.Name, "value": int64(item.Value)})
	}
	return types.DefaultTypeAdapter.NativeToValue(items)
}

func parseJSON(of ref.Val) ref.Val {
	text, ok := of.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(of)
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return types.WrapErr(errors.Join(errNotJSON, err))
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

var errNotJSON = errors.New("parseJSON() of a string that is not JSON")

// costs are Kubernetes' for its libraries, a traversal of what is read for the
// functions of placements, and the price of the call if that is more.
type costs struct{ library.CostEstimator }

// CallCost gives the cost of a call.
func (c *costs) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	cost := uint64(price(function, args)) //nolint:gosec // it is positive
	switch function {
	case "parseJSON":
		cost = max(cost, traversal(args[0], 10))
	case "scores":
		cost = max(cost, traversal(result, 1))
	default:
		if known := c.CostEstimator.CallCost(function, overload, args, result); known != nil {
			cost = max(cost, *known)
		}
	}
	return &cost
}

// traversal costs one for each so many elements, and one for the call.
func traversal(of ref.Val, elements uint64) uint64 {
	cost := uint64(1)
	if sized, ok := of.(traits.Sizer); ok {
		if n, ok := sized.Size().(types.Int); ok && n > 0 {
			cost += uint64(n) / elements
		}
	}
	return cost
}
