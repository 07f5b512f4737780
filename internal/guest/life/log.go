package life

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	logName = "agentd.log"

	// logSize bounds the log; a full log begins anew. A line has a hundred bytes, and a
	// healthy agent writes some ten lines.
	logSize = 1 << 20

	// logFlush is how long the last lines may take to reach the file system.
	logFlush = 200 * time.Millisecond
)

// keepLog makes the log the standard error of this process: the console belongs to the
// init now. The file is opened once, because an init may mount something over its
// directory. restore makes the console standard error again and closes the file.
func keepLog() (restore func(), err error) {
	f, err := sys.OpenLog(boot.LogDir, logName)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := sys.ReadPipe()
	if err != nil {
		return nil, err
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil { // The pipe has no reader after a crash.
		return nil, err
	}
	err = sys.Redirect(theirs)
	_ = theirs.Close() // Its copy stays.
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyLog(f, ours)
	}()
	return func() {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
		if err := sys.Redirect(os.Stdout); err != nil { // The console.
			return
		}
		select {
		case <-done:
		case <-time.After(logFlush):
		}
	}, err
}

// copyLog copies from the pipe to the log until the pipe ends.
func copyLog(f, from *os.File) {
	defer func() { _ = f.Close() }() // An error has no place to go.
	var size int64
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if size += int64(n); size > logSize && f.Truncate(0) == nil {
			size = int64(n)
		}
		_, _ = f.Write(b[:n]) // A full disk costs the log and nothing else.
	}
}
