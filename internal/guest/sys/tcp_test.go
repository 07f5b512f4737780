package sys_test

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
)

// Files of lookups that nobody could read to an end are refused, and nothing is left
// waiting for them; addresses need none of them.
func TestDialWithoutFiles(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, name := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"} {
			if err := errors.Join(os.RemoveAll(name), syscall.Mkfifo(name, 0o644)); err != nil {
				t.Fatal(err)
			}
			before := runtime.NumGoroutine()
			for _, host := range []string{"one.test", "two.test", "localhost"} {
				_, err := sys.DialTCP(t.Context(), host, 1)
				failed, ok := errors.AsType[*fs.PathError](err)
				if !ok || failed.Path != name || !strings.Contains(err.Error(), "not a regular file") {
					t.Errorf("%s with a fifo %s: %v", host, name, err)
				}
			}
			if after := runtime.NumGoroutine(); after > before {
				t.Errorf("%s: %d goroutines before, %d after", name, before, after)
			}
			if _, err := sys.DialTCP(t.Context(), "::1", 1); err == nil || strings.Contains(err.Error(), name) {
				t.Errorf("an address with a fifo %s: %v", name, err)
			}
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	})
}
