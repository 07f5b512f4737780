package machines

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// Defaults of a health check, equal to those of container tools.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
)

const (
	// healthOutput is how many bytes of a check's output are kept, as container tools
	// do.
	healthOutput = 4096
	// leastHealth is the shortest time in a check, as with container tools.
	leastHealth = time.Millisecond
)

// A HealthStatus is the result of the health checks so far.
type HealthStatus string

// The values of a HealthStatus.
const (
	HealthStarting HealthStatus = "starting"
	Healthy        HealthStatus = "healthy"
	Unhealthy      HealthStatus = "unhealthy"
)

// A Health is the result of the health checks in one life of a machine.
type Health struct {
	Status        HealthStatus `json:"status"`
	FailingStreak int          `json:"failing_streak"`
	Checked       time.Time    `json:"checked,omitzero"` // When the last check ended.
	Exit          *int         `json:"exit,omitempty"`   // Exit status of the last check; nil if its command did not run to its end.
	Output        string       `json:"output,omitempty"` // Output of the last check, or why it did not run; at most 4,096 bytes.

	passed bool // A check has passed in this life.
}

// CheckHealth validates a health check.
func CheckHealth(h *sandbox.Healthcheck) error {
	if h == nil {
		return nil
	}
	if len(healthCommand(h)) == 0 {
		return fmt.Errorf("health check %q: want CMD and a command's words, or CMD-SHELL and one line", h.Test)
	}
	for name, d := range map[string]time.Duration{
		"interval": h.Interval, "timeout": h.Timeout, "start period": h.StartPeriod, "start interval": h.StartInterval,
	} {
		if d != 0 && d < leastHealth {
			return fmt.Errorf("health check: %s of %v: want at least %v, or 0 for the default", name, d, leastHealth)
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("health check: %d retries: want at least 0", h.Retries)
	}
	return nil
}

// healthCommand returns the command of a check, or nil if the check has none.
func healthCommand(h *sandbox.Healthcheck) []string {
	const word, words = 2, 1 // Length of a CMD-SHELL test; least number of words after CMD.
	switch {
	case len(h.Test) == word && h.Test[0] == "CMD-SHELL":
		return []string{"/bin/sh", "-c", h.Test[1]}
	case len(h.Test) > words && h.Test[0] == "CMD":
		return h.Test[1:]
	}
	return nil
}

// A checker runs the health checks of one life. It writes the results to a file of its
// own, because only the supervisor writes the state.
type checker struct {
	check  *sandbox.Healthcheck
	client *client.Client
	path   string
	log    func(line string)
	began  time.Time
	health Health
	holds  atomic.Int64 // Calls of hold and release: odd while the machine is paused.
	cancel context.CancelFunc
	done   chan struct{}
}

// startChecks starts the checks of a life. It returns nil for a machine without a
// check.
func startChecks(h *sandbox.Healthcheck, in *client.Client, path string, log func(line string)) *checker {
	_ = os.Remove(path) // The file of the previous life.
	if h == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &checker{check: h, client: in, path: path, log: log, began: time.Now(), cancel: cancel, done: make(chan struct{})}
	c.health.Status = HealthStarting
	c.say()
	go c.run(ctx)
	return c
}

// end tells the checks to end. The file keeps the last result.
func (c *checker) end() {
	if c != nil {
		c.cancel()
	}
}

// hold begins no check until release, for a machine that is about to be paused.
func (c *checker) hold() { c.count() }

// release takes hold back.
func (c *checker) release() { c.count() }

func (c *checker) count() {
	if c != nil {
		c.holds.Add(1)
	}
}

// await waits until the checks have ended, at the latest when the link to the machine
// closes.
func (c *checker) await() {
	if c != nil {
		<-c.done
	}
}

func (c *checker) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-time.After(c.pause(time.Now())):
		case <-ctx.Done():
			return
		}
		held := c.holds.Load()
		if held%2 != 0 {
			continue
		}
		exit, output, err := c.once(ctx)
		if _, lost := errors.AsType[*client.LinkError](err); lost || ctx.Err() != nil {
			return // The machine is ending, which is why this check fails.
		}
		if c.holds.Load() != held {
			continue // The machine was paused meanwhile: the time of this check is not its command's.
		}
		if err != nil {
			output = err.Error()
		}
		before := c.health.Status
		c.health.take(c.check, exit, output, time.Since(c.began), time.Now().Round(0))
		if c.health.Status != before {
			c.log("health check: " + string(c.health.Status))
		}
		c.say()
	}
}

// pause returns the time until the next check.
func (c *checker) pause(now time.Time) time.Duration {
	if !c.health.passed && now.Sub(c.began) < c.check.StartPeriod {
		return cmp.Or(c.check.StartInterval, healthStartInterval)
	}
	return cmp.Or(c.check.Interval, healthInterval)
}

// once runs the check. If its command does not run to its end, exit is nil and err says
// why.
func (c *checker) once(ctx context.Context) (exit *int, output string, err error) {
	most := cmp.Or(c.check.Timeout, healthTimeout)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	argv := healthCommand(c.check)
	cmd := c.client.CommandContext(ctx, argv[0], argv[1:]...)
	out := &head{most: healthOutput}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = reportWait // After a kill the check's children may keep its output open.
	err = cmd.Run()
	failed, ended := errors.AsType[*client.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return nil, "", fmt.Errorf("the check took longer than %v", most)
	case ended:
		status := exitStatus(failed)
		return &status, string(out.text), nil
	case err != nil:
		return nil, "", StartError(argv[0], err)
	}
	return new(int), string(out.text), nil
}

// take adds the result of a check. since is the time since the machine began to serve.
func (h *Health) take(check *sandbox.Healthcheck, exit *int, output string, since time.Duration, now time.Time) {
	h.Exit, h.Output, h.Checked = exit, output, now
	switch {
	case exit != nil && *exit == 0:
		h.Status, h.FailingStreak, h.passed = Healthy, 0, true
	case !h.passed && since < check.StartPeriod:
	default:
		if h.FailingStreak++; h.FailingStreak >= cmp.Or(check.Retries, healthRetries) {
			h.Status = Unhealthy
		}
	}
}

func (c *checker) say() {
	if err := writeJSON(c.path, c.health); err != nil {
		c.log("health check: " + err.Error())
	}
}

// readHealth returns nil for a machine without a check.
func (m *Machine) readHealth() (*Health, error) {
	h := &Health{}
	err := readJSON(m.file(healthName), h)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // A machine without a check is no failure.
	}
	return h, err
}

// A head keeps the first bytes that are written to it.
type head struct {
	text []byte
	most int
}

func (w *head) Write(b []byte) (int, error) {
	w.text = append(w.text, b[:min(len(b), w.most-len(w.text))]...)
	return len(b), nil
}
