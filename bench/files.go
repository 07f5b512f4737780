package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/agentd-go/agentd/wire"
)

const (
	// fileName is in memory, so that no disk of the host is involved.
	fileName = "/dev/shm/bench"
	smallDir = "/dev/shm/small"
	// smallSize is the size of a small file.
	smallSize = 1 << 10
	// smallAtOnce is how many of them are in flight at a time.
	smallAtOnce = 16
)

// An operation is one request on files, with its data.
type operation struct {
	m     *machine
	id    uint32
	start time.Time
	got   int64
	done  chan struct{}
	took  time.Duration
	resp  wire.FSResponse
	err   error
}

func (m *machine) ask(op wire.FSOp) (*operation, error) {
	o := &operation{m: m, done: make(chan struct{}), start: time.Now()}
	o.id = m.open(o.frame)
	return o, m.send(o.id, &wire.FSRequest{Op: op})
}

func (o *operation) frame(e wire.Envelope) {
	switch e.Type { //nolint:exhaustive // The others are for nobody here.
	case wire.TypeFSData:
		data, _ := wire.DataOf(e) // Missing bytes are detected at the end.
		o.got += int64(len(data))
		return
	case wire.TypeFSResponse:
		var m wire.Message
		if m, o.err = wire.Decode(e); o.err == nil {
			o.resp, _ = deref[wire.FSResponse](m)
		}
		if o.err == nil && o.resp.Error != nil {
			o.err = fmt.Errorf("the agent says: %s", *o.resp.Error)
		}
	case wire.TypeProtocolError:
		o.err = fmt.Errorf("the agent refused: %q", e.Payload)
	default:
		return
	}
	o.took = time.Since(o.start)
	o.m.close(o.id)
	close(o.done)
}

func deref[T any](m wire.Message) (v T, ok bool) {
	p, ok := m.(any).(*T)
	if ok {
		v = *p
	}
	return v, ok
}

func (o *operation) wait(ctx context.Context) error {
	select {
	case <-o.done:
		return o.err
	case <-o.m.done:
		return o.m.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request does an operation without data.
func (m *machine) request(ctx context.Context, op wire.FSOp) (*operation, error) {
	o, err := m.ask(op)
	if err == nil {
		err = o.wait(ctx)
	}
	return o, err
}

func (m *machine) openFile(ctx context.Context, name string, options wire.OpenOptions) (handle uint64, err error) {
	o, err := m.request(ctx, &wire.OpOpenFile{Path: name, Options: options})
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", name, err)
	}
	h, ok := o.resp.Data.(*wire.ResultHandle)
	if !ok {
		return 0, fmt.Errorf("open %s: no handle", name)
	}
	return h.Handle, nil
}

func (m *machine) closeHandle(ctx context.Context, handle uint64) error {
	_, err := m.request(ctx, &wire.OpCloseHandle{Handle: handle})
	return err
}

// writeFile makes a file of size bytes.
func (m *machine) writeFile(ctx context.Context, name string, size int64) error {
	h, err := m.openFile(ctx, name, wire.OpenOptions{Write: true, Create: true, Truncate: true})
	if err != nil {
		return err
	}
	o, err := m.ask(&wire.OpWrite{Handle: h})
	if err != nil {
		return err
	}
	if err := m.feed(o.id, size, func(b []byte) wire.Message { return &wire.FSData{Data: b} }); err != nil {
		return err
	}
	if err := o.wait(ctx); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return m.closeHandle(ctx, h)
}

func fileWrite(ctx context.Context, m *machine, size int64) (float64, error) {
	start := time.Now()
	if err := m.writeFile(ctx, fileName, size); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return speed(size, took), m.checkSize(ctx, size)
}

func (m *machine) checkSize(ctx context.Context, size int64) error {
	o, err := m.request(ctx, &wire.OpStat{Path: fileName, FollowSymlink: true})
	if err != nil {
		return err
	}
	if s, ok := o.resp.Data.(*wire.ResultStat); !ok || s.Entry.Size != uint64(size) {
		return fmt.Errorf("file: %w: it has not %d bytes but %+v", errLost, size, o.resp.Data)
	}
	return nil
}

// fileRead reads the file of fileWrite.
func fileRead(ctx context.Context, m *machine, size int64) (float64, error) {
	start := time.Now()
	h, err := m.openFile(ctx, fileName, wire.OpenOptions{Read: true})
	if err != nil {
		return 0, err
	}
	o, err := m.request(ctx, &wire.OpRead{Handle: h})
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	took := time.Since(start)
	if o.got != size {
		return 0, fmt.Errorf("read: %w: %d of %d arrived", errLost, o.got, size)
	}
	return speed(size, took), m.closeHandle(ctx, h)
}

// smallFiles writes many small files, some at a time, and returns files per second.
func smallFiles(ctx context.Context, m *machine, number int) (float64, error) {
	if _, err := m.request(ctx, &wire.OpMkdir{Path: smallDir}); err != nil {
		return 0, err
	}
	start := time.Now()
	var all sync.WaitGroup
	errs := make([]error, smallAtOnce)
	for i := range smallAtOnce {
		all.Go(func() {
			for n := i; n < number && errs[i] == nil; n += smallAtOnce {
				errs[i] = m.writeFile(ctx, fmt.Sprintf("%s/%d", smallDir, n), smallSize)
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	_, err := m.request(ctx, &wire.OpRemoveDir{Path: smallDir, Recursive: true})
	return float64(number) / took.Seconds(), err
}

// stats requests a file's attributes repeatedly, and returns the microseconds of each
// request.
func stats(ctx context.Context, m *machine, number int) (all []float64, err error) {
	for range number {
		o, err := m.request(ctx, &wire.OpStat{Path: "/etc/passwd", FollowSymlink: true})
		if err != nil {
			return all, err
		}
		all = append(all, float64(o.took.Microseconds()))
	}
	return all, nil
}
