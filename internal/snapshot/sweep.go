package snapshot

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// Sweep removes what interrupted makers of states have left in a directory. What is at
// work stays.
func Sweep(dir string) {
	entries, _ := os.ReadDir(dir) // It may not be there.
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), unfinished) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path) // What stays is removed by the next.
			_ = lock.Close()       // Only a lock.
		}
	}
}

// PassingDir makes a directory that Sweep removes when lock is closed.
func PassingDir(dir string) (made string, lock *os.File, err error) {
	var b [4]byte
	_, _ = rand.Read(b[:]) // Never fails.
	made = filepath.Join(dir, hex.EncodeToString(b[:])+unfinished)
	lock, err = claim(made)
	return made, lock, err
}
