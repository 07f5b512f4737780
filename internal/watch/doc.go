// Package watch tells what changes in a directory, or in a tree, from inotify(7).
//
// A watch of the kernel is one of a directory, not of a file, so a tree of 100,000 files in a
// thousand directories takes a thousand. A [Watcher] adds one for each directory that
// appears, and lists the directory after that: what was made in it before is told too, and may
// be told twice. Directories that are renamed keep their watches.
//
// # Bounds
//
// The queue is the kernel's (fs.inotify.max_queued_events, 16,384 events). If it overflows the
// Watcher looks for directories that it has missed, and then says so: whoever lists the tree
// after that misses nothing. A Watcher holds one read of the queue, 64 KiB, what it has made of
// some of it, and some 200 bytes for a directory, of which there are at most maxDirs.
//
// The compiler is told not to put small functions into others (go:noinline): the agent's
// binary has a budget, and an event costs a system call anyway.
//
// It is for one goroutine, but for Close. Nothing is opened through a link below the top.
package watch
