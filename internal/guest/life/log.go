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

	// logSize is the log's bound; one that is full begins anew. A line has a
	// hundred bytes, and an agent in order writes some ten.
	logSize = 1 << 20

	// logFlush is for the last lines to reach a file system that answers.
	logFlush = 200 * time.Millisecond
)

// keepLog makes the standard error of this process the log, which is opened
// once: an init may cover its directory with a file system of its own, and it goes on. The console belongs to the init now. Whoever calls restore gets the
// console back, and the file is let go.
func keepLog() (restore func(), err error) {
	f, err := sys.OpenLog(boot.LogDir, logName)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := sys.ReadPipe()
	if err != nil {
		return nil, err
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil { // Nobody reads the pipe then.
		return nil, err
	}
	err = sys.Redirect(theirs)
	_ = theirs.Close() // Its copy stays.
	done := make(chan struct{})
	go func() {
		defer close(done)
		fill(f, ours)
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

// fill writes what comes to the log until nothing can come any more.
func fill(f, from *os.File) {
	defer func() { _ = f.Close() }() // There is nobody left to tell.
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
