package suite

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

const (
	// inputBytes is four times what a session keeps in memory.
	inputBytes = 16 << 20
	// outputCopies of it are 64 MiB.
	outputCopies = 4
	// silence is how long a command leaves its input unread, in seconds.
	silence = 6
	// promptly tells an agent that nobody holds up, which answers in milliseconds
	// or, emulated on a busy host, in a second, from one that answers when the
	// silence is over.
	promptly = silence * time.Second / 2
)

// flows move much data, and show which sessions that delays (sections 8.5, 8.6 and 11).
//
//holds:wire 8: started, output, exited; 200 MB in order, also with a slow host
//holds:wire 8: one that never reads delays nobody by 100 ms; bounded memory
func flows() []behaviour {
	return []behaviour{
		{"volume", volume},
		{"output of a slow listener", slowListener},
		{"silent reader delays nobody", silentReader},
		{"flood delays nobody", flood},
	}
}

// random returns bytes in which no two places are alike.
func random(n int, seed uint64) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // It never fails.
	return b
}

func volume(g *guest) error {
	input := random(inputBytes, 1)
	c := g.sh("cat >/dev/shm/volume; sha256sum </dev/shm/volume")
	c.Stdin = bytes.NewReader(input)
	out, err := c.Output()
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%x  -\n", sha256.Sum256(input)); string(out) != want {
		return fmt.Errorf("input arrived as %q, want %q", out, want)
	}
	got, want := sha256.New(), sha256.New()
	for range outputCopies {
		_, _ = want.Write(input) // A hash never fails.
	}
	c = g.cmd("cat", "/dev/shm/volume", "/dev/shm/volume", "/dev/shm/volume", "/dev/shm/volume")
	c.Stdout = got
	if err := c.Run(); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		return errors.New("output is not what the command wrote")
	}
	_, err = g.say("rm /dev/shm/volume")
	return err
}

// slowListener lets the output wait for its reader: nothing is lost.
func slowListener(g *guest) error {
	const lines = 400_000 // 2.6 MiB: more than the client's queue and all pipes between.
	d, err := talk(g.sh(fmt.Sprintf("echo ready; seq %d", lines)))
	if err != nil {
		return err
	}
	if err := d.hear("ready\n"); err != nil {
		return err
	}
	pause, cancel := g.pause(2 * time.Second)
	defer cancel()
	<-pause
	rest, err := io.ReadAll(io.MultiReader(bytes.NewReader(d.heard), d.out))
	if err != nil {
		return err
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	if string(rest) != want.String() {
		return fmt.Errorf("%d bytes arrived, want %d", len(rest), want.Len())
	}
	return d.Wait()
}

// silentReader floods a command that reads nothing until it ends.
func silentReader(g *guest) error {
	c := g.cmd("sleep", strconv.Itoa(silence))
	c.Stdin = bytes.NewReader(make([]byte, 8<<20))
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	worst, err := g.pulse(ended)
	if err == nil && worst > promptly {
		err = fmt.Errorf("a sign of life took %v", worst)
	}
	return err
}

// flood asks for signs of life while output comes as fast as it can.
func flood(g *guest) error {
	c := g.cmd("cat", "/dev/zero")
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	pause, cancel := g.pause(3 * time.Second)
	defer cancel()
	go func() {
		<-pause
		_ = c.Kill() // It has not ended: the zeros have no end.
		ended <- endsWith(c.Wait(), -1)
	}()
	worst, err := g.pulse(ended)
	if err == nil && worst > promptly {
		err = fmt.Errorf("a sign of life took %v", worst)
	}
	return err
}

// pause returns a channel that is closed after a while, or at the behaviour's end.
func (g *guest) pause(d time.Duration) (<-chan struct{}, func()) {
	done := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(done) })
	return done, func() { timer.Stop() }
}

// pulse asks for signs of life until something ends, and returns how long the
// slowest took.
func (g *guest) pulse(ended <-chan error) (worst time.Duration, err error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		took, err := g.alive()
		worst = max(worst, took)
		if err != nil {
			return worst, err
		}
		select {
		case err := <-ended:
			return worst, err
		case <-tick.C:
		}
	}
}
