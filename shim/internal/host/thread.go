package host

import "runtime"

// OnThread calls f on a thread of its own, which ends with f: so nothing else sees the
// namespaces or the root that f enters. Linux ends the thread because its goroutine ends
// locked (runtime.LockOSThread).
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
