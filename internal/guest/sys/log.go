package sys

import (
	"fmt"
	"os"
)

// LogPrefix begins each line that the agent prints.
const LogPrefix = "agentd: "

// Logf writes a line to standard error: to the console, which the host keeps, or to
// the log of an agent that gave the console to another init.
func Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, LogPrefix+format+"\n", args...) }
