package machines

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// entryBytes is the most that Linux accepts for one entry with its final NUL
	// (MAX_ARG_STRLEN, execve(2)).
	entryBytes = 128 << 10
	// fileLineBytes bounds the blanks and the comment in a line of a file.
	fileLineBytes = 1 << 20
	// Some editors write byteOrderMark at the start of a file.
	byteOrderMark = "\ufeff"
)

// Environment completes entries without a value from this process's environment.
func Environment(entries []string) ([]string, error) {
	var all []string
	for _, e := range entries {
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("--env %.64q: %w", e, err)
		}
		if key, _, ok := strings.Cut(e, "="); !ok {
			value, set := os.LookupEnv(key)
			if !set {
				continue // A variable that is not set here is not set in the machine, as with container tools.
			}
			e = key + "=" + value
		}
		all = append(all, e)
	}
	return all, nil
}

// checkEntry refuses an entry that cannot be passed to a program.
func checkEntry(e string) error {
	switch {
	case e == "" || e[0] == '=':
		return errors.New("want KEY=VALUE or KEY")
	case strings.ContainsRune(e, 0):
		return errors.New("it holds a NUL byte")
	case !utf8.ValidString(e):
		return errors.New("it is not UTF-8")
	case len(e) >= entryBytes:
		return fmt.Errorf("it has %d bytes, and Linux takes less than %d", len(e), entryBytes)
	}
	return nil
}

// EnvironmentFile reads a file with one entry a line, in the format of container tools.
// It ignores empty lines, lines that begin with #, and blanks before an entry. Quotes
// are part of a value. It also ignores the word export before an entry and a byte order
// mark. An error names the file and the line.
func EnvironmentFile(path string) (entries []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines, n := bufio.NewScanner(f), 0
	lines.Buffer(nil, fileLineBytes)
	for lines.Scan() {
		n++
		line := lines.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, byteOrderMark)
		}
		entry, err := fileEntry(line)
		if err != nil {
			return nil, fmt.Errorf("--env-file %s:%d: %.64q: %w", path, n, line, err)
		}
		if entry != "" {
			entries = append(entries, entry)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--env-file %s:%d: %w", path, n+1, err)
	}
	return entries, nil
}

// fileEntry returns the entry in a line, or "" if there is none.
func fileEntry(line string) (string, error) {
	entry := strings.TrimLeftFunc(line, unicode.IsSpace)
	if entry == "" || strings.HasPrefix(entry, "#") {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(entry, "export "); ok {
		entry = strings.TrimLeftFunc(rest, unicode.IsSpace)
	}
	if err := checkEntry(entry); err != nil {
		return "", err
	}
	if key, _, _ := strings.Cut(entry, "="); strings.ContainsFunc(key, unicode.IsSpace) {
		return "", errors.New("there are blanks in the key")
	}
	return entry, nil
}
