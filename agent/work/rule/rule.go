// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/interpreter"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/lru"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Evaluator evaluates rules. It may be used concurrently.
type Evaluator struct {
	language *cel.Env
	bounds   interpreter.InterpretableDecoratorV2
	programs *lru.Cache
}

// New returns an evaluator.
func New() (*Evaluator, error) {
	env, err := language()
	if err != nil {
		return nil, fmt.Errorf("setting up CEL: %w", err)
	}
	bounds, err := withBounds(env)
	if err != nil {
		return nil, err
	}
	return &Evaluator{language: env, bounds: bounds, programs: lru.New(maxPrograms)}, nil
}

// Subject is what rules are about.
type Subject struct {
	Kind schema.GroupKind
	// Live is the object as it is; nil if it is not there, or not known, as Unread says. It is only read.
	Live   *unstructured.Unstructured
	Unread string
}

// Conditions returns the conditions that the rules make of a subject, one of each type at most. It takes a second or so at most,
// whatever the rules say.
func (e *Evaluator) Conditions(ctx context.Context, subject Subject, rules []workv1.ConditionRule) []metav1.Condition {
	if len(rules) == 0 {
		return nil
	}
	timed, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	var object any
	if subject.Live != nil {
		object, _ = cut(subject.Live.Object)
	}
	var conditions []metav1.Condition
	taken := map[string]bool{}
	for _, rule := range rules {
		c, ok := e.condition(timed, subject, object, rule)
		if ok && !taken[c.Type] {
			taken[c.Type] = true
			conditions = append(conditions, c)
		}
	}
	return conditions
}

// condition makes the condition of one rule, false if the rule says nothing of such an object.
func (e *Evaluator) condition(ctx context.Context, subject Subject, object any, rule workv1.ConditionRule) (metav1.Condition, bool) {
	switch rule.Type {
	case workv1.WellKnownConditionsType:
		return wellKnown(subject, rule)
	case workv1.CelConditionExpressionsType:
		programs, message, err := e.programsOf(rule)
		switch {
		case err != nil:
			return made(rule, metav1.ConditionUnknown, workv1.ConditionRuleInvalid, err.Error()), true
		case object == nil:
			return unread(subject, rule), true
		}
		return evaluate(ctx, rule, programs, message, object), true
	}
	return made(rule, metav1.ConditionUnknown, workv1.ConditionRuleInvalid, fmt.Sprintf("conditionRules of type %q are not supported by this agent", rule.Type)), true
}

func made(rule workv1.ConditionRule, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: rule.Condition, Status: status, Reason: reason, Message: message}
}

func unread(subject Subject, rule workv1.ConditionRule) metav1.Condition {
	return made(rule, metav1.ConditionUnknown, workv1.ConditionRuleInternalError, "there is no object to evaluate the rule on: "+subject.Unread)
}

// programsOf compiles a rule. message is nil if the rule has no messageExpression.
func (e *Evaluator) programsOf(rule workv1.ConditionRule) (programs []cel.Program, message cel.Program, err error) {
	if n := len(rule.CelExpressions); n == 0 || n > maxExpressions {
		return nil, nil, fmt.Errorf("the rule has %d celExpressions, want 1 to %d", n, maxExpressions)
	}
	for i, text := range rule.CelExpressions {
		program, err := e.compile(text, cel.BoolType)
		if err != nil {
			return nil, nil, fmt.Errorf("celExpressions[%d]: %w", i, err)
		}
		programs = append(programs, program)
	}
	if rule.MessageExpression == "" {
		return programs, nil, nil
	}
	if message, err = e.compile(rule.MessageExpression, cel.StringType); err != nil {
		return nil, nil, fmt.Errorf("messageExpression: %w", err)
	}
	return programs, message, nil
}

// evaluate runs the expressions of a rule, to the first one that is not true.
func evaluate(ctx context.Context, rule workv1.ConditionRule, programs []cel.Program, message cel.Program, object any) metav1.Condition {
	status, words := metav1.ConditionTrue, "all celExpressions are true"
	for i, program := range programs {
		value, err := run(ctx, program, map[string]any{"object": object, "result": false})
		switch is, isBool := value.(bool); {
		case errors.Is(err, errTime):
			return made(rule, metav1.ConditionUnknown, workv1.ConditionRuleInternalError, fmt.Sprintf("celExpressions[%d]: %v", i, err))
		case err != nil:
			return made(rule, metav1.ConditionFalse, workv1.ConditionRuleExpressionError, fmt.Sprintf("celExpressions[%d]: %v", i, err))
		case !isBool:
			return made(rule, metav1.ConditionFalse, workv1.ConditionRuleExpressionError, fmt.Sprintf("celExpressions[%d]: it gives %T, not bool", i, value))
		case is:
			continue
		}
		status, words = metav1.ConditionFalse, fmt.Sprintf("celExpressions[%d] is false", i)
		break
	}
	if rule.Message != "" {
		words = rule.Message
	}
	if message != nil {
		value, err := run(ctx, message, map[string]any{"object": object, "result": status == metav1.ConditionTrue})
		text, _ := value.(string)
		switch {
		case err != nil && rule.Message == "":
			words = fmt.Sprintf("messageExpression: %v", err)
		case text != "":
			words = text
		}
	}
	return made(rule, status, workv1.ConditionRuleEvaluated, words)
}

// wellKnown is condition Complete of the kinds that finish.
func wellKnown(subject Subject, rule workv1.ConditionRule) (metav1.Condition, bool) {
	if rule.Condition == "" {
		rule.Condition = workv1.ManifestComplete
	}
	finishes := map[schema.GroupKind]func(*unstructured.Unstructured) (bool, string){
		{Group: "batch", Kind: "Job"}: jobFinished, {Kind: "Pod"}: podFinished,
	}
	finished, known := finishes[subject.Kind]
	if !known || rule.Condition != workv1.ManifestComplete {
		return metav1.Condition{}, false
	}
	if subject.Live == nil {
		return unread(subject, rule), true
	}
	status := metav1.ConditionFalse
	is, message := finished(subject.Live)
	if is {
		status = metav1.ConditionTrue
	}
	return made(rule, status, workv1.ConditionRuleEvaluated, message), true
}

func jobFinished(job *unstructured.Unstructured) (bool, string) {
	conditions, _, err := unstructured.NestedSlice(job.Object, "status", "conditions")
	if err != nil {
		return false, "Job is not finished"
	}
	for _, c := range conditions {
		fields, _ := c.(map[string]any)
		if (fields["type"] == "Complete" || fields["type"] == "Failed") && fields["status"] == "True" {
			return true, "Job is finished"
		}
	}
	return false, "Job is not finished"
}

func podFinished(pod *unstructured.Unstructured) (bool, string) {
	phase, _, err := unstructured.NestedString(pod.Object, "status", "phase")
	if err != nil || phase == "" {
		return false, "Pod has no phase"
	}
	return phase == "Succeeded" || phase == "Failed", "Pod is in phase " + phase
}

// conditionType is what the apiserver takes as the type of a condition.
var conditionType = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$`)

// maxType is how long a condition's type may be.
const maxType = 316

// Refusal returns why rules cannot be followed at all, or nil: a condition of such a type would keep the whole status from being
// written, or say of the work what it does not mean.
func Refusal(rules []workv1.ConditionRule, reserved ...string) error {
	for _, rule := range rules {
		if rule.Condition == "" && rule.Type == workv1.WellKnownConditionsType {
			continue
		}
		if len(rule.Condition) > maxType || !conditionType.MatchString(rule.Condition) {
			return fmt.Errorf("conditionRules: %q is no valid type of a condition", rule.Condition)
		}
		for _, name := range reserved {
			if rule.Condition == name {
				return fmt.Errorf("conditionRules: condition %q is the agent's own, no rule can set it", name)
			}
		}
	}
	return nil
}
