package machines

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A RestartPolicy says when a machine in the background is started again after its
// end, by its supervisor: "no" or "" never; "on-failure", or "on-failure:N" for at most
// N times, when its command has ended with another status than 0, or the machine has
// failed; "always" and "unless-stopped" at every end. A machine that was stopped or
// killed by agentctl, or whose timeout has passed, stays down.
type RestartPolicy string

// Words of a policy.
const (
	restartNo            = "no"
	restartOnFailure     = "on-failure"
	restartAlways        = "always"
	restartUnlessStopped = "unless-stopped"
)

// ParseRestart checks the words of a policy.
func ParseRestart(s string) (RestartPolicy, error) {
	word, times, counted := strings.Cut(s, ":")
	_, err := strconv.ParseUint(times, 10, 31)
	switch {
	case counted && word == restartOnFailure && err == nil,
		!counted && (word == "" || word == restartNo || word == restartOnFailure || word == restartAlways || word == restartUnlessStopped):
		return RestartPolicy(s), nil
	}
	return "", fmt.Errorf("restart policy %q: want no, on-failure[:TIMES], always or unless-stopped", s)
}

// Never reports whether the policy starts nothing again.
func (p RestartPolicy) Never() bool { return p == "" || p == restartNo }

// again reports whether a life that has ended by itself is followed by another one.
func (p RestartPolicy) again(s State) bool {
	word, times, counted := strings.Cut(string(p), ":")
	switch word {
	case restartAlways, restartUnlessStopped:
		return true
	case restartOnFailure:
		most, _ := strconv.Atoi(times) // It was checked; 0 is no bound, as containers' tools have it.
		failed := s.Phase == Failed || s.Exit != nil && *s.Exit != 0
		return failed && (!counted || most == 0 || s.Restarts < most)
	}
	return false
}

// What containers' tools do: a pause that doubles, and begins anew after a life that
// was not short.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = time.Minute
	longLife   = 10 * time.Second
)

// nextPause is how long to wait after a life that took so long.
func nextPause(last, life time.Duration) time.Duration {
	if last == 0 || life >= longLife {
		return firstPause
	}
	return min(2*last, mostPause)
}
