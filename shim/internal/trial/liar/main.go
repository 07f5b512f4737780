// Command liar is an agent that lies: the first process of a machine whose guest was
// taken over. The text of its variable lie, which the linker sets, says how.
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
	"golang.org/x/sys/unix"
)

// lie is one of the names in lies; another one ends at once, and the kernel with it.
var lie string

// lies are what the agent says on its port. They return at the end of the host.
var lies = map[string]func(port *os.File) error{
	"noise": func(port *os.File) error { return repeat(port, noise(64<<10)) },
	"zeros": func(port *os.File) error { return repeat(port, make([]byte, 64<<10)) },
	"giant": func(port *os.File) error {
		_, err := port.Write([]byte{0xff, 0xff, 0xff, 0xff})
		return errors.Join(err, repeat(port, make([]byte, 64<<10)))
	},
	"early": func(port *os.File) error { return errors.Join(send(port, 0, &wire.Ready{}), drain(port)) },
	"flood": func(port *os.File) error {
		many, err := wire.AppendFrame(nil, wire.Newest, 1<<20, new(wire.Pong))
		return errors.Join(ready(port), err, repeat(port, bytes.Repeat(many, 1000)))
	},
	"answers": func(port *os.File) error { return errors.Join(ready(port), answer(port)) },
	"after":   func(port *os.File) error { return errors.Join(ready(port), repeat(port, noise(64<<10))) },
	"mute":    func(port *os.File) error { return errors.Join(ready(port), drain(port)) },
}

func main() {
	for _, dir := range []string{"proc", "sysfs", "devtmpfs"} {
		target := "/" + strings.TrimSuffix(strings.TrimSuffix(dir, "tmpfs"), "fs")
		_ = os.Mkdir(target, 0o755) //nolint:gosec // As any guest has it; it may be there.
		_ = unix.Mount(dir, target, dir, 0, "")
	}
	tell, ok := lies[lie]
	if !ok {
		fmt.Println("liar: the end")
		os.Exit(1)
	}
	err := loadModules()
	var port *os.File
	if err == nil {
		port, err = open(time.Now().Add(time.Minute))
	}
	if err == nil {
		err = tell(port)
	}
	fmt.Println("liar:", err)
	<-make(chan struct{}) // The host ends the machine.
}

// loadModules loads those of the initramfs, in the order of their names, as an agent
// has to: the port's driver is one of them.
func loadModules() error {
	names, err := filepath.Glob("/lib/modules/agentd/*")
	for _, name := range names {
		b, failed := os.ReadFile(name)
		if failed == nil {
			failed = unix.InitModule(b, "")
		}
		err = errors.Join(err, failed)
	}
	return err
}

// open waits for the agent's port, whose name comes after the port itself.
func open(end time.Time) (*os.File, error) {
	for ; time.Now().Before(end); <-time.After(time.Millisecond) {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, name := range names {
			if b, _ := os.ReadFile(name); strings.TrimSpace(string(b)) == "agent" {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
			}
		}
	}
	return nil, os.ErrNotExist
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // It never fails.
	return b
}

func repeat(w io.Writer, b []byte) error {
	for {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
}

func drain(port *os.File) error {
	_, err := io.Copy(io.Discard, port)
	return err
}

// ready does the agent's part of a boot.
func ready(port *os.File) error {
	if err := send(port, 0, new(wire.InitResolved)); err != nil {
		return err
	}
	frames := frame.NewReader(port)
	for {
		f, err := frames.Next()
		if err != nil {
			return err
		}
		if e, err := wire.DecodeEnvelope(f.Body); err == nil && e.Type == wire.TypeInitAck {
			return send(port, 0, &wire.Ready{AgentVersion: "\x1b[31mliar"})
		}
	}
}

// answer says noise to each request.
func answer(port *os.File) error {
	for frames := frame.NewReader(port); ; {
		f, err := frames.Next()
		if err != nil {
			return err
		}
		b, err := frame.Append(nil, frame.Frame{ID: f.ID, Body: noise(100)})
		if err != nil {
			return err
		}
		if _, err := port.Write(b); err != nil {
			return err
		}
	}
}

func send(port *os.File, id uint32, m wire.Message) error {
	b, err := wire.AppendFrame(nil, wire.Newest, id, m)
	if err != nil {
		return err
	}
	_, err = port.Write(b)
	return err
}
