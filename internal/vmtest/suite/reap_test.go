package suite

import (
	"errors"
	"fmt"
	"sync"
)

// reaping is what becomes of processes (boot section 27).
func reaping() []behaviour {
	const zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; true"
	return []behaviour{
		{"every code of 500 commands", everyCode},
		{"1000 orphans", func(g *guest) error {
			_, err := g.say("i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done")
			return err
		}},
		soon(behaviour{"no zombie", func(g *guest) error { return g.until("0\n", zombies) }}),
	}
}

// everyCode runs 500 commands, 200 at once.
func everyCode(g *guest) error {
	const all, atOnce, codes = 500, 200, 256
	places := make(chan struct{}, atOnce)
	errs := make([]error, all)
	var running sync.WaitGroup
	for i := range all {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			if err := endsWith(g.sh(fmt.Sprintf("exit %d", i%codes)).Run(), i%codes); err != nil {
				errs[i] = fmt.Errorf("command %d: %w", i, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}
