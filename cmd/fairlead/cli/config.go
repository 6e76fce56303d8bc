// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// Config is the CLI's file of hubs.
type Config struct {
	Current  string    `json:"current,omitempty"`
	Contexts []Context `json:"contexts,omitempty"`
}

// Context is one hub: where its admin listener is, which CA it has, and which
// kubeconfig says who you are there.
type Context struct {
	Name        string `json:"name"`
	Address     string `json:"address"`
	CA          string `json:"ca,omitempty"` // PEM
	CAFile      string `json:"caFile,omitempty"`
	Kubeconfig  string `json:"kubeconfig,omitempty"`
	KubeContext string `json:"kubeContext,omitempty"`
}

// HubsFile is the file of hubs.
func (o *Options) HubsFile() string {
	if o.ConfigFile != "" {
		return o.ConfigFile
	}
	if file := os.Getenv("FAIRLEAD_CONFIG"); file != "" {
		return file
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "fairlead.yaml"
	}
	return filepath.Join(dir, "fairlead", "config.yaml")
}

// LoadConfig reads the file of hubs; a missing one is empty.
func LoadConfig(file string) (Config, error) {
	var c Config
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("reading the file of hubs: %w", err)
	}
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return c, fmt.Errorf("the file of hubs %s: %w", file, err)
	}
	return c, nil
}

// Save writes the file of hubs; it is replaced as a whole or not at all.
func (c *Config) Save(file string) error {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding the file of hubs: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("writing the file of hubs: %w", err)
	}
	next := file + ".new"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return fmt.Errorf("writing the file of hubs: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("writing the file of hubs: %w", err)
	}
	return nil
}

// Put adds or replaces a context and makes it the current one.
func (c *Config) Put(context Context) {
	c.Current = context.Name
	for i := range c.Contexts {
		if c.Contexts[i].Name == context.Name {
			c.Contexts[i] = context
			return
		}
	}
	c.Contexts = append(c.Contexts, context)
}

// Find gives the context of that name.
func (c *Config) Find(name string) (Context, bool) {
	for _, context := range c.Contexts {
		if context.Name == name {
			return context, true
		}
	}
	return Context{}, false
}

// Remove takes a context out; one that was the current one leaves none.
func (c *Config) Remove(name string) {
	c.Contexts = slices.DeleteFunc(c.Contexts, func(context Context) bool { return context.Name == name })
	if c.Current == name {
		c.Current = ""
	}
}

// context is the one that the flags name, or the current one; without any it
// is empty and the flags have to say everything.
func (o *Options) context() (Context, error) {
	config, err := LoadConfig(o.HubsFile())
	if err != nil {
		return Context{}, err
	}
	if c, ok := config.Find(cmp.Or(o.ContextName, config.Current)); ok {
		return c, nil
	}
	if o.ContextName != "" {
		return Context{}, fmt.Errorf("%s has no hub %q: add it with «fairlead config set-hub %s --hub-address HOST:PORT»", o.HubsFile(), o.ContextName, o.ContextName)
	}
	return Context{}, nil
}
