// Package calls counts the system calls of a program, by ptrace(2). The counts do not depend
// on how fast the host is, so tests can hold them.
//
// It counts the calls of the program's threads, and those of a child until that executes a
// program of its own. It does not count the calls of that program.
//
// Only tests import it, and only on x86-64, whose registers it reads.
package calls
