package sys

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Victim is a process that the kernel's memory killer ended.
type Victim struct {
	PID  int
	Name string
}

// maxVictims bounds the list of victims of one command.
const maxVictims = 16

// Killed lists the victims of the memory killer in a control group and below it, from the
// kernel's log (/dev/kmsg, Documentation/ABI/testing/dev-kmsg). group is a path below the
// tree's mount, such as "/a/b". It lists none if the log cannot be read.
func Killed(group string) (all []Victim) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }() // Nothing was written.
	const record = 8 << 10                // The longest record (LOG_LINE_MAX and its head).
	b := make([]byte, record)
	for len(all) < maxVictims {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			continue // The record was overwritten; the next read has the oldest.
		case err != nil || n <= 0:
			return all // EAGAIN: there are no more.
		}
		if v, ok := victim(string(b[:n]), group); ok {
			all = append(all, v)
		}
	}
	return all
}

// victim reads one record of the log: "6,1234,5678,-;oom-kill:constraint=CONSTRAINT_MEMCG,
// ...,task_memcg=/a/b,task=NAME,pid=12,uid=0".
func victim(record, group string) (v Victim, ok bool) {
	head, text, _ := strings.Cut(record, ";")
	text, ok = strings.CutPrefix(text, "oom-kill:")
	const levels = 8 // Of a priority; the kernel's own facility is 0. Programs cannot write with it.
	priority, _, _ := strings.Cut(head, ",")
	if n, err := strconv.Atoi(priority); err != nil || n >= levels || !ok {
		return v, false
	}
	text, _, _ = strings.Cut(text, "\n")
	_, text, ok = strings.Cut(text, ",task_memcg=")
	if !ok {
		return v, false
	}
	// The name of a program may have commas; the last fields do not.
	at := strings.LastIndex(text, ",pid=")
	of, name, ok := strings.Cut(text[:max(at, 0)], ",task=")
	if !ok || of != group && !strings.HasPrefix(of, group+"/") {
		return v, false
	}
	pid, _, _ := strings.Cut(text[at+len(",pid="):], ",")
	v.PID, _ = strconv.Atoi(pid)
	v.Name = name
	return v, v.PID > 0
}
