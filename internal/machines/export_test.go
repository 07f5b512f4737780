package machines

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Hold holds a life in a state until standard input ends, as a supervisor would
// that hangs.
func Hold(dir string, p Phase) {
	life, err := take(filepath.Join(dir, lifeName))
	if err == nil && p != Created {
		err = writeJSON(filepath.Join(dir, stateName), State{Phase: p, PID: os.Getpid()})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = life.Close()
	os.Exit(0)
}
