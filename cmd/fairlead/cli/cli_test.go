// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// TestEveryReasonHasAHint reads the list of reasons itself.
func TestEveryReasonHasAHint(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../../internal/wire/reason/reason.go", nil, 0)
	require.NoError(t, err)
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		value, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		if value == reason.Domain {
			return true
		}
		found++
		require.NotEmpty(t, hints()[value], "reason %s has no hint: say what to do", value)
		return true
	})
	require.Len(t, hints(), found, "a hint for a reason that does not exist")
}

func TestReport(t *testing.T) {
	cases := map[string]struct {
		reason      string
		err         error
		interrupted bool
		code        int
		text        string
	}{
		"nothing":     {"all went well", nil, false, 0, ""},
		"failed":      {"any error", errors.New("boom"), false, ExitFailed, "Error: boom\n"},
		"usage":       {"the command line", Usagef("say where"), false, ExitUsage, "Error: say where\n"},
		"wrapped":     {"codes survive being wrapped", errors.Join(TimedOut(errors.New("late"))), false, ExitTimeout, "Error: late\n"},
		"interrupted": {"who pressed Ctrl-C knows", context.Canceled, true, ExitInterrupted, ""},
		"deadline":    {"a call that took too long", Explain(status.Error(codes.DeadlineExceeded, "x")), false, ExitTimeout, "Error: the hub did not answer in time\nHint: --timeout gives it longer\n"},
		"refused":     {"found by the CLI itself", Refuse(reason.InvalidName, "%q", "X"), false, ExitFailed, "Error: \"X\" [INVALID_NAME]\nHint: names have lower-case letters, digits and '-', at most 63\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, tc.code, Report(&out, tc.err, tc.interrupted), tc.reason)
			require.Equal(t, tc.text, out.String(), tc.reason)
		})
	}
}

// TestTableKeepsTerminalsSafe prints what a hostile spoke may send.
func TestTableKeepsTerminalsSafe(t *testing.T) {
	var out bytes.Buffer
	var tab table
	require.NoError(t, tab.print(&out, []string{"A", "B"}, [][]string{{"é\x1b[2Jé", "two\nlines"}, {"longer", "x"}}))
	require.Equal(t, "A        B\né[2Jé    two lines\nlonger   x\n", out.String())
	require.NoError(t, tab.print(&out, []string{"A", "B"}, [][]string{{"s", "y"}}))
	require.Equal(t, "s        y\n", out.String()[len(out.String())-11:])
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	o := &Options{Err: &out, Now: func() time.Time { return now }}
	p := o.Progress()
	p.Sayf("one")
	p.Sayf("one")
	p.Sayf("two\nlines")
	p.Break()
	require.Equal(t, "one\ntwo lines\n", out.String(), "elsewhere a line for each change")

	out.Reset()
	o.Terminal = true
	p = o.Progress()
	p.Sayf("one")
	now = now.Add(3 * time.Second)
	p.Sayf("one")
	p.Break()
	require.Equal(t, "\r\x1b[Kone (0s)\r\x1b[Kone (3s)\r\x1b[K", out.String(), "on a terminal one line with a clock")
	out.Reset()
	p.Sayf("%s", strings.Repeat("é", 100))
	require.Equal(t, "\r\x1b[K"+strings.Repeat("é", 70)+"… (3s)", out.String(), "that fits on it")
}

func TestProgressKeepsTheClockGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := (&Options{Err: &out, Now: time.Now, Terminal: true}).Progress()
		err := p.While(func() error {
			p.Sayf("waiting")
			return Pause(t.Context(), 2500*time.Millisecond)
		})
		require.NoError(t, err)
		require.Equal(t, "\r\x1b[Kwaiting (0s)\r\x1b[Kwaiting (1s)\r\x1b[Kwaiting (2s)\r\x1b[K", out.String())
	})
}

func TestConfigIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "config.yaml")
	empty, err := LoadConfig(file)
	require.NoError(t, err)
	require.Empty(t, empty.Contexts)
	var c Config
	c.Put(Context{Name: "a", Address: "a:1"})
	c.Put(Context{Name: "b", Address: "b:1"})
	c.Put(Context{Name: "a", Address: "a:2"})
	require.NoError(t, c.Save(file))
	again, err := LoadConfig(file)
	require.NoError(t, err)
	require.Equal(t, c, again)
	require.Equal(t, "a", again.Current)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	require.NoError(t, os.WriteFile(file, []byte("contexts:\n- nam: a\n"), 0o600))
	_, err = LoadConfig(file)
	require.ErrorContains(t, err, `unknown field "nam"`)
}
