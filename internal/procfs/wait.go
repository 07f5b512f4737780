package procfs

import (
	"errors"
	"io/fs"
	"strings"
)

// A Wait says on what a process waits.
type Wait struct {
	Channel string   `json:"channel,omitempty"` // The kernel function that it sleeps in.
	Syscall string   `json:"syscall,omitempty"` // The system call's number and arguments, or "running".
	Stack   []string `json:"stack,omitempty"`   // The kernel's call stack.
	Files   []File   `json:"files,omitempty"`
}

// A File is an open descriptor.
type File struct {
	FD     string `json:"fd"`
	Target string `json:"target"` // A path, or pipe:[N], socket:[N], ...
}

// WaitOf finds out on what a process waits. It leaves out details that the kernel does
// not show.
func WaitOf(fsys fs.FS, pid int) (w Wait, err error) {
	if channel := line(fsys, file(pid, "wchan")); channel != "0" {
		w.Channel = channel
	}
	w.Syscall = line(fsys, file(pid, "syscall"))
	w.Stack = Stack(fsys, pid)
	entries, err := fs.ReadDir(fsys, file(pid, "fd"))
	if err != nil && !gone(err) {
		return w, err
	}
	for _, e := range entries {
		target, err := fs.ReadLink(fsys, file(pid, "fd")+"/"+e.Name())
		if err == nil { // Otherwise it was closed meanwhile.
			w.Files = append(w.Files, File{e.Name(), target})
		}
	}
	return w, nil
}

// Stack returns a process's call stack in the kernel, the innermost function first; nil
// if the kernel does not show it.
func Stack(fsys fs.FS, pid int) (frames []string) {
	text, err := read(fsys, file(pid, "stack"))
	if err != nil {
		return nil
	}
	for l := range strings.Lines(string(text)) {
		_, name, _ := strings.Cut(strings.TrimSpace(l), "] ")
		frames = append(frames, name)
	}
	return frames
}

// line reads a file of one line; "" if it cannot be read.
func line(fsys fs.FS, name string) string {
	text, err := read(fsys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// optional reads a file that some kernels lack.
func optional(fsys fs.FS, name string) ([]byte, error) {
	text, err := read(fsys, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || err != nil && strings.Contains(err.Error(), "not supported") {
		return nil, nil
	}
	return text, err
}
