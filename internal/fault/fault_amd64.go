package fault

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// A Point is a call that is to fail: the Nth one of the name Call, or of all that
// are counted if Call is "any".
type Point struct {
	Call string
	Nth  int
}

// ParsePoint reads "openat2:3" or "any:57".
func ParsePoint(s string) (p Point, err error) {
	name, number, ok := strings.Cut(s, ":")
	p.Call = name
	if p.Nth, err = strconv.Atoi(number); !ok || err != nil {
		return p, fmt.Errorf("call %q: want NAME:N or any:N", s)
	}
	return p, nil
}

// A Fault is what became of a point.
type Fault struct {
	Call  string // The name of the call that failed, "" if none did.
	Calls int    // How many were counted until then, that one included.
}

// Nth runs f on a thread of its own and makes the call at the point fail with
// errno. Calls that f leaves to other threads are not counted.
func Nth(at Point, errno syscall.Errno, f func()) (Fault, error) {
	// A thread that waits in a raw system call cannot be stopped for a collection,
	// and the goroutine that answers it would be.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(enoughProcessors))
	listeners, finished := make(chan int), make(chan struct{})
	var refused error
	go func() {
		defer close(finished)
		runtime.LockOSThread() // Never given back: the filter stays.
		fd, err := Listen()
		if err != nil {
			refused = err
			close(listeners)
			return
		}
		listeners <- fd
		f()
	}()
	fd, ok := <-listeners
	if !ok {
		return Fault{}, fmt.Errorf("filter system calls: %w", refused)
	}
	defer func() { _ = syscall.Close(fd) }()
	w := &Watcher{Listener: fd, At: at, Errno: errno}
	err := w.Watch(finished)
	return w.Fault, err
}

// enoughProcessors lets the watcher run while f's thread and one of the runtime's
// are in the kernel.
const enoughProcessors = 4

// A Watcher answers for a listener.
type Watcher struct {
	Listener int
	At       Point
	Errno    syscall.Errno
	Fault    Fault
	Failed   func(Fault) // Is called before the call fails, if it is set.

	named int // Calls of the point's name.
}

// Watch answers until finished is closed or nobody is left to answer.
func (w *Watcher) Watch(finished <-chan struct{}) error {
	for {
		select {
		case <-finished:
			return nil
		default:
		}
		ready, err := readable(w.Listener)
		if err == nil && ready {
			err = answer(w.Listener, w.judge)
		}
		if err != nil {
			return err
		}
	}
}

// judge returns what a call fails with, 0 to let it through.
func (w *Watcher) judge(number uint32) syscall.Errno {
	if w.Fault.Call != "" {
		return 0
	}
	name := watched[number]
	w.Fault.Calls++
	if w.At.Call == "any" || w.At.Call == name {
		w.named++
	}
	if w.named != w.At.Nth || w.At.Call != "any" && w.At.Call != name {
		return 0
	}
	w.Fault.Call = name
	if w.Failed != nil {
		w.Failed(w.Fault)
	}
	return w.Errno
}
