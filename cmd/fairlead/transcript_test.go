// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write what the commands print into testdata/*.txt")

// TestTranscripts runs the commands of testdata/*.txt against a fake hub and
// compares what a person would see: a line "$ fairlead …" is a command, what
// follows is its output, with "! " before what goes to standard error and
// "[exit N]" for a code other than 0. "$ < text" is the next command's standard
// input, "$ terminal" has it run on a terminal, "$ login TOKEN" changes who calls,
// "$ broken" has the next watch cut off, "$ asked" prints what the hub was
// asked since.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			got := newDesk(t).play(t, string(want))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			was, is := difference(string(want), got)
			require.Equal(t, was, is, "run «go test ./cmd/fairlead -run Transcripts -update» and look at the difference")
		})
	}
}

// difference cuts two texts to some lines around the first difference.
func difference(a, b string) (string, string) {
	const around = 5
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	at := 0
	for at < len(as) && at < len(bs) && as[at] == bs[at] {
		at++
	}
	cut := func(lines []string) string {
		return strings.Join(lines[max(0, min(at, len(lines))-around):min(len(lines), at+around)], "\n")
	}
	return cut(as), cut(bs)
}

// desk is where a person sits: a fake hub, a kubeconfig, a file of hubs.
type desk struct {
	hub        *fakeHub
	dir        string
	config     string
	kubeconfig string
	stdin      string
	terminal   bool
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{hub: startFakeHub(t), dir: t.TempDir()}
	d.config, d.kubeconfig = filepath.Join(d.dir, "config.yaml"), filepath.Join(d.dir, "kubeconfig")
	d.login(t, personToken)
	var config cli.Config
	config.Put(cli.Context{Name: "fake", Address: d.hub.address, CA: string(d.hub.ca), Kubeconfig: d.kubeconfig})
	require.NoError(t, config.Save(d.config))
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "ca.crt"), d.hub.ca, 0o600))
	return d
}

func (d *desk) login(t *testing.T, token string) {
	t.Helper()
	require.NoError(t, env.WriteKubeconfig(d.kubeconfig, &rest.Config{Host: "https://127.0.0.1:1", BearerToken: token}))
}

// play runs the commands of a transcript and returns it with what they print
// now.
func (d *desk) play(t *testing.T, transcript string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(transcript) {
		text := strings.TrimRight(line, "\n")
		command, is := strings.CutPrefix(text, "$ ")
		switch {
		case strings.HasPrefix(text, "#"):
			out.WriteString("\n" + line)
			continue
		case !is:
			continue
		}
		out.WriteString("\n" + line)
		switch {
		case command == "asked":
			out.WriteString(strings.Join(d.hub.take(), "\n") + "\n")
		case command == "broken":
			d.hub.broken = 1
		case command == "terminal":
			d.terminal = true
		case strings.HasPrefix(command, "login "):
			d.login(t, strings.TrimPrefix(command, "login "))
		case strings.HasPrefix(command, "< "):
			d.stdin += strings.TrimPrefix(command, "< ") + "\n"
		default:
			out.WriteString(d.hide(d.run(t, command)))
		}
	}
	return strings.TrimLeft(strings.ReplaceAll(out.String(), "\n\n\n", "\n\n"), "\n")
}

// run runs one command line and returns what it printed.
func (d *desk) run(t *testing.T, line string) string {
	t.Helper()
	args := words(line)
	require.Contains(t, []string{"fairlead", "kubectl-fairlead", "kubectl_complete-fairlead"}, args[0])
	var stdout, stderr bytes.Buffer
	o := &cli.Options{In: strings.NewReader(d.stdin), Out: &stdout, Err: &stderr, Now: now, Terminal: d.terminal}
	d.stdin, d.terminal = "", false
	root := newRoot(o)
	root.SetArgs(calledAs(root, args[0], args[1:]))
	o.ConfigFile = d.config
	require.NoError(t, root.PersistentFlags().Set("config", d.config))
	err := root.ExecuteContext(t.Context())
	code := cli.Report(&stderr, err, t.Context().Err() != nil)
	text := &stdout
	for line := range strings.Lines(stderr.String()) {
		text.WriteString("! " + line)
	}
	if code != 0 {
		fmt.Fprintf(text, "[exit %d]\n", code)
	}
	return text.String()
}

// hide takes out what differs from run to run.
func (d *desk) hide(text string) string {
	here, err := os.Getwd()
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer(d.dir, "$DIR", here, "$PWD", d.hub.address, "$HUB").Replace(text)
}

// words cuts a command line at blanks, with 'single quotes' around words that
// have some.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		out = append(out, strings.Fields(part)...)
	}
	return out
}

// TestEveryCommandIsDocumented keeps docs/cli.md complete, and free of commands
// that do not exist.
func TestEveryCommandIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	root := newRoot(&cli.Options{})
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, child := range cmd.Commands() {
			visit(child)
		}
		if !cmd.HasSubCommands() {
			require.Contains(t, string(raw), "`"+cmd.CommandPath(), "docs/cli.md says nothing of it")
		}
	}
	visit(root)
	for _, found := range regexp.MustCompile("`fairlead ([a-z][a-z -]*)").FindAllStringSubmatch(string(raw), -1) {
		if strings.HasPrefix(found[1], "completion") { // cobra adds it when it runs
			continue
		}
		cmd, rest, err := root.Find(strings.Fields(found[1]))
		require.NoError(t, err, found[0])
		require.Empty(t, rest, "%s is no command", found[0])
		require.NotSame(t, root, cmd)
	}
}
