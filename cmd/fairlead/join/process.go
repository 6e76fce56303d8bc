// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

const (
	// tailBytes is how much of the log is looked at.
	tailBytes = 16 << 10
	// tailLines is how much of it an error shows.
	tailLines = 3
	// lastWordsPrefix begins the line in which an agent says why it ends.
	lastWordsPrefix = "agent: "
	// askTimeout is how long an agent may take to say whether it is ready.
	askTimeout = 2 * time.Second
)

// process is an agent in the background, which goes on when this command ends.
type process struct {
	*spoke

	running running
	child   bool // this very command started it
}

// running is what the folder says of the process.
type running struct {
	PID  int    `json:"pid"`
	HTTP string `json:"http"` // address of /readyz
}

func (p *process) log() string  { return filepath.Join(p.dataDir, "agent.log") }
func (p *process) file() string { return filepath.Join(p.dataDir, "agent.json") }

func (p *process) hint() string {
	return fmt.Sprintf("the agent is process %d, its log is %s; «kill %d» ends it", p.running.PID, p.log(), p.running.PID)
}

func (p *process) start(ctx context.Context) error {
	if raw, err := os.ReadFile(p.file()); err == nil && json.Unmarshal(raw, &p.running) == nil && p.ask(ctx, "/livez") == nil {
		p.o.Notef("The agent runs already, as process %d; its log is %s", p.running.PID, p.log())
		return nil
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the agent's log: %w", err)
	}
	defer func() { _ = out.Close() }() // the process has it
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.binary, append(p.flags(), "--http-listen="+address, "--log-format=json")...)
	cmd.Env = append(os.Environ(), "FAIRLEAD_JOIN="+p.text) // arguments are for everybody to see
	cmd.Env = append(cmd.Env, p.proxyEnvironment()...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, p.dataDir
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the agent: %w", err)
	}
	p.running, p.child = running{PID: cmd.Process.Pid, HTTP: address}, true
	raw, err := json.Marshal(p.running)
	if err == nil {
		err = os.WriteFile(p.file(), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing down which process the agent is: %w", err)
	}
	p.o.Notef("Agent started as process %s; its log is %s", strconv.Itoa(p.running.PID), p.log())
	return nil
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

func (p *process) state(ctx context.Context) (state, error) {
	if how, ended := reap(p.running.PID); p.child && ended {
		return state{}, endedError{p.end(how)}
	}
	known, err := p.credentials()
	if err != nil {
		return state{}, err
	}
	switch err := p.ask(ctx, "/readyz"); {
	case err == nil:
		known.connected = known.joined()
	case ctx.Err() == nil && !p.child && p.ask(ctx, "/livez") != nil:
		return known, fmt.Errorf("the agent (process %d) does not answer any more\nHint: its log is %s", p.running.PID, p.log())
	default:
		known.trouble = p.lastTrouble()
	}
	return known, nil
}

// endedError says that the agent has ended, and with it this join.
type endedError struct{ error }

// Unwrap is why.
func (e endedError) Unwrap() error { return e.error }

// credentials reads the agent's own file.
func (p *process) credentials() (state, error) {
	known, err := p.record()
	return known.state, err
}

func (p *process) record() (record, error) {
	raw, err := os.ReadFile(filepath.Join(p.dataDir, "credentials.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	data := map[string]string{}
	if err == nil {
		err = json.Unmarshal(raw, &data)
	}
	if err != nil {
		return record{}, fmt.Errorf("reading the agent's credentials: %w", err)
	}
	return recordOf(data), nil
}

// ask gets one of the agent's health pages.
func (p *process) ask(ctx context.Context, page string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.running.HTTP+page, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s says %s", page, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// tail is the end of the log, line by line.
func (p *process) tail() [][]byte {
	file, err := os.Open(p.log())
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = file.Seek(-tailBytes, io.SeekEnd) // else it is read from its begin
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		return nil
	}
	return bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
}

// end says why the agent ended: in its own last words, with the reason of the
// hub, if there is one, and what it means.
func (p *process) end(how string) error {
	text := p.lastWords()
	found := refusal().FindStringSubmatch(text)
	if found == nil {
		return fmt.Errorf("the agent ended (%s): %s\nHint: its log is %s", how, text, p.log())
	}
	return cli.Refuse(found[1], "the agent ended: %s", found[2])
}

// refusal matches what an agent says of the hub's refusal: REASON: words.
func refusal() *regexp.Regexp { return regexp.MustCompile(`(?s)\b([A-Z][A-Z_]{4,}): (.*)`) }

// lastWords are the last lines of the log that say something to a person.
func (p *process) lastWords() string {
	var words []string
	lines := p.tail()
	for _, line := range slices.Backward(lines) {
		if last, is := strings.CutPrefix(string(line), lastWordsPrefix); is { // all there is to say
			return last
		}
		if text := sentence(line); text != "" && len(words) < tailLines {
			words = append([]string{text}, words...)
		}
	}
	return or(strings.Join(words, "; "), "it said nothing")
}

// lastTrouble is the newest warning or error, unless good news came since.
func (p *process) lastTrouble() string {
	lines := p.tail()
	for _, line := range slices.Backward(lines) {
		var entry struct {
			Level string `json:"level"`
		}
		if json.Unmarshal(line, &entry) != nil {
			continue
		}
		if entry.Level == "INFO" {
			return ""
		}
		return sentence(line)
	}
	return ""
}

// sentence is what one line of the log says of trouble; empty when it is none.
func sentence(line []byte) string {
	var entry struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}
	switch err := json.Unmarshal(line, &entry); {
	case err != nil:
		return string(line)
	case entry.Level == "INFO" || entry.Level == "DEBUG":
		return ""
	case entry.Error == "":
		return entry.Msg
	}
	return entry.Msg + ": " + entry.Error
}
