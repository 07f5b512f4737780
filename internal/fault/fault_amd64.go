package fault

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// A Point names the call that fails: the Nth call of the name Call, or the Nth of all
// counted calls if Call is "any".
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

// A Fault is the result for a point.
type Fault struct {
	Call  string // The name of the call that failed, "" if none did.
	Calls int    // Number of counted calls, including that one.
}

// Nth runs f on its own thread and makes the call at the point fail with errno. It does
// not count calls of other threads.
func Nth(at Point, errno syscall.Errno, f func()) (Fault, error) {
	// No collection may start: it cannot stop a thread in a raw system call, but would
	// stop the goroutine that answers that call.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(enoughProcessors))
	listeners, finished := make(chan int), make(chan struct{})
	var refused error
	go func() {
		defer close(finished)
		runtime.LockOSThread() // Never unlocked, because the filter stays on the thread.
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

// enoughProcessors lets the watcher run while f's thread and a thread of the runtime
// are in the kernel.
const enoughProcessors = 4

// A Watcher answers the notifications of a listener.
type Watcher struct {
	Listener int
	At       Point
	Errno    syscall.Errno
	Fault    Fault
	Failed   func(Fault) // If set, called before the call fails.

	named int // Counted calls of the point's name.
}

// Watch answers until finished is closed or no watched thread is left.
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

// judge returns the error for a call, or 0 to let it through.
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
