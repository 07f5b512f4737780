package machines

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A RestartPolicy says when a supervisor in the background restarts its machine after
// its end. "no" and "" mean never. "on-failure" means after a failure of the machine or
// an exit status of its command other than 0; "on-failure:N" does so at most N times.
// "always" and "unless-stopped" mean after every end. A machine that agentctl has
// stopped or killed, or whose timeout has passed, is never restarted.
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

// again reports whether to restart a machine after a life that has ended by itself.
func (p RestartPolicy) again(s State) bool {
	word, times, counted := strings.Cut(string(p), ":")
	switch word {
	case restartAlways, restartUnlessStopped:
		return true
	case restartOnFailure:
		most, _ := strconv.Atoi(times) // ParseRestart has checked it; 0 means no bound, as with container tools.
		failed := s.Phase == Failed || s.Exit != nil && *s.Exit != 0
		return failed && (!counted || most == 0 || s.Restarts < most)
	}
	return false
}

// As with container tools the pause doubles after each life, and starts anew after a
// life that was not short.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = time.Minute
	longLife   = 10 * time.Second
)

// nextPause returns how long to wait after a life of that length; last is the previous
// pause.
func nextPause(last, life time.Duration) time.Duration {
	if last == 0 || life >= longLife {
		return firstPause
	}
	return min(2*last, mostPause)
}
