package vmm

import (
	"fmt"
	"strconv"
	"strings"
)

// handDir stands for the directory that the script makes. It is unambiguous, because no
// argument of a program can hold a NUL.
const handDir = "\x00"

// script returns shell lines that run the machine by hand, with the console on the
// terminal and the other links as sockets in a fresh directory.
func script(qemu []string, shares [][]string) string {
	var b strings.Builder
	b.WriteString("d=$(mktemp -d)\n")
	for i, words := range shares {
		socket := quoteShell(handSocket("fs" + strconv.Itoa(i)))
		fmt.Fprintf(&b, "%s &\n", quoteWords(words))
		// At most five seconds; after that QEMU reports the missing socket.
		fmt.Fprintf(&b, "for i in $(seq 50); do [ -S %s ] && break; sleep 0.1; done\n", socket)
	}
	b.WriteString(quoteWords(qemu) + "\n")
	return b.String()
}

func handSocket(name string) string { return handDir + "/" + name + ".sock" }

// handPaths are the links of a machine that [script] starts.
func handPaths(shares int) RuntimePaths {
	run := RuntimePaths{
		Console: Stdio(),
		Agent:   Listening(handSocket("agent")),
		QMP:     Listening(handSocket("qmp")),
		Records: Listening(handSocket("records")),
	}
	for i := range shares {
		run.Shares = append(run.Shares, Dialed(handSocket("fs"+strconv.Itoa(i))))
	}
	return run
}

func quoteWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quoteShell(w)
	}
	return strings.Join(quoted, " ")
}

// quoteShell writes a word for sh; handDir becomes "$d".
func quoteShell(word string) string {
	if word == "" {
		return "''"
	}
	if strings.IndexFunc(word, special) < 0 {
		return word
	}
	quoted := "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	quoted = strings.ReplaceAll(quoted, handDir, `'"$d"'`)
	return strings.TrimPrefix(quoted, "''")
}

// special reports whether r may have a meaning for sh.
func special(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:,=+@%", r)
}
