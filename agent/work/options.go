// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"path"
	"strings"

	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/executor"
	"fairlead.dev/fairlead/agent/work/inventory"
	"fairlead.dev/fairlead/agent/work/rule"
)

// options is how one manifest is to be treated.
type options struct {
	Strategy   workv1.UpdateStrategy  `json:"strategy"`
	Feedback   []workv1.FeedbackRule  `json:"feedback"`
	Conditions []workv1.ConditionRule `json:"conditions"`
}

// optionsFor returns how the manifest called key is to be treated: each part by the first config that matches and has it.
func optionsFor(configs []workv1.ManifestConfigOption, key inventory.Key) options {
	var chosen options
	for _, config := range configs {
		if !matches(config.ResourceIdentifier, key) {
			continue
		}
		if chosen.Strategy.Type == "" && config.UpdateStrategy != nil {
			chosen.Strategy = *config.UpdateStrategy
		}
		if chosen.Feedback == nil {
			chosen.Feedback = config.FeedbackRules
		}
		if chosen.Conditions == nil {
			chosen.Conditions = config.ConditionRules
		}
	}
	if chosen.Strategy.Type == "" {
		chosen.Strategy.Type = workv1.UpdateStrategyTypeUpdate
	}
	return chosen
}

// matches compares an identifier, whose name and namespace may have wildcards, with a resource.
func matches(id workv1.ResourceIdentifier, key inventory.Key) bool {
	return id.Group == key.Group && id.Resource == key.Resource && glob(id.Namespace, key.Namespace) && glob(id.Name, key.Name)
}

func glob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// refusal returns why a manifest with these options is not applied by this version, or nil.
func (o options) refusal() error {
	if err := rule.Refusal(o.Conditions, condition.Reserved()...); err != nil {
		return err
	}
	switch o.Strategy.Type {
	case workv1.UpdateStrategyTypeUpdate, workv1.UpdateStrategyTypeCreateOnly, workv1.UpdateStrategyTypeReadOnly:
		return nil
	case workv1.UpdateStrategyTypeServerSideApply:
		if manager, _ := o.manager(); !strings.HasPrefix(manager, workv1.DefaultFieldManager) {
			return fmt.Errorf("updateStrategy.serverSideApply.fieldManager %q must start with %q", manager, workv1.DefaultFieldManager)
		}
		return nil
	}
	return fmt.Errorf("updateStrategy %q is not supported by this agent", o.Strategy.Type)
}

// manager returns the field manager of strategy ServerSideApply, and whether it takes fields from others.
func (o options) manager() (name string, force bool) {
	config := o.Strategy.ServerSideApply
	if config == nil {
		return workv1.DefaultFieldManager, false
	}
	if config.FieldManager == "" {
		return workv1.DefaultFieldManager, config.Force
	}
	return config.FieldManager, config.Force
}

// ignored returns the rules about fields that strategy ServerSideApply leaves alone.
func (o options) ignored() []workv1.IgnoreField {
	if o.Strategy.Type != workv1.UpdateStrategyTypeServerSideApply || o.Strategy.ServerSideApply == nil {
		return nil
	}
	return o.Strategy.ServerSideApply.IgnoreFields
}

// orphans reports whether the delete option of a work leaves the resource on the spoke.
func orphans(option *workv1.DeleteOption, key inventory.Key) bool {
	if option == nil {
		return false
	}
	switch option.PropagationPolicy {
	case workv1.DeletePropagationPolicyTypeOrphan:
		return true
	case workv1.DeletePropagationPolicyTypeForeground:
		return false
	case workv1.DeletePropagationPolicyTypeSelectivelyOrphan:
		if option.SelectivelyOrphan == nil {
			return false
		}
		for _, rule := range option.SelectivelyOrphan.OrphaningRules {
			if (inventory.Key{Group: rule.Group, Resource: rule.Resource, Namespace: rule.Namespace, Name: rule.Name}) == key {
				return true
			}
		}
	}
	return false
}

// workRefusal returns why nothing of a work is applied by this version, or nil.
func workRefusal(work *workv1.ManifestWork) error {
	if len(work.Name) > inventory.MaxWorkName {
		return fmt.Errorf("the name of the work has %d characters, at most %d are possible", len(work.Name), inventory.MaxWorkName)
	}
	if as := work.Spec.Executor; as != nil {
		if _, err := executor.SubjectOf(as); err != nil {
			return err
		}
	}
	if option := work.Spec.DeleteOption; option != nil {
		switch option.PropagationPolicy {
		case "", workv1.DeletePropagationPolicyTypeForeground, workv1.DeletePropagationPolicyTypeOrphan, workv1.DeletePropagationPolicyTypeSelectivelyOrphan:
		default:
			return fmt.Errorf("deleteOption.propagationPolicy %q is not supported by this agent", option.PropagationPolicy)
		}
	}
	return nil
}
