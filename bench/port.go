package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// portPiece is the most that a port takes in one write (drivers/char/virtio_console.c).
const portPiece = 32 << 10

// portLimit measures the port's own speed in MiB/s, with only a loop of writes or reads
// in the guest.
func (r *rig) portLimit(ctx context.Context, size int64) (out, in float64, err error) {
	m, err := r.start(ctx, r.tool, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	stop := context.AfterFunc(ctx, func() { _ = m.conn.SetDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, readBuffer)
	// The first order also waits for the end of the boot.
	for _, n := range []int64{1, size} {
		start := time.Now()
		if err := m.order('w', n); err != nil {
			return 0, 0, err
		}
		for left := n; left > 0; {
			got, err := m.conn.Read(buf)
			if err != nil {
				return 0, 0, err
			}
			left -= int64(got)
		}
		out = speed(n, time.Since(start))
	}
	start := time.Now()
	if err := m.order('r', size); err != nil {
		return 0, 0, err
	}
	for left := size; left > 0; left -= piece {
		if _, err := m.conn.Write(buf[:piece]); err != nil {
			return 0, 0, err
		}
	}
	_, err = io.ReadFull(m.conn, buf[:1])
	return out, speed(size, time.Since(start)), err
}

// order tells bench/guest what to do.
func (m *machine) order(what byte, n int64) error {
	b := binary.BigEndian.AppendUint32([]byte{what}, portPiece)
	_, err := m.conn.Write(binary.BigEndian.AppendUint64(b, uint64(n)))
	return err
}
