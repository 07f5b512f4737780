package machines

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// lastSignal is the highest signal that the protocol sends: the last one with a name.
const lastSignal = 31

// signalNumbers maps names of signals to their numbers on Linux (signal(7), the column of
// x86 and ARM), the guest's system. This host's may differ.
var signalNumbers = map[string]syscall.Signal{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7,
	"FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
	"STKFLT": 16, "CHLD": 17, "CLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22,
	"URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29,
	"PWR": 30, "SYS": 31,
}

// ParseSignal reads a signal by its name, with or without SIG, or its number, 1 to 31.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= lastSignal {
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, ok := signalNumbers[name]; ok {
		return n, nil
	}
	return 0, fmt.Errorf("signal %q: want a name such as TERM, or a number from 1 to %d", s, lastSignal)
}
