package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// PortInterval is how often [Client.WatchPorts] looks unless it is told otherwise.
	PortInterval = 500 * time.Millisecond

	// maxPorts bounds what a guest can make the client remember, and maxPortBytes what it
	// reads: the kernel has 150 bytes for each.
	maxPorts     = 4096
	maxPortBytes = 2 * maxPorts * 150
)

// A PortEvent says that programs of the guest began or ceased to listen at an address.
type PortEvent struct {
	Addr  netip.AddrPort
	Ended bool
}

// ListeningPorts lists the TCP addresses at which programs of the guest listen, in order, each
// once however many sockets or processes have it. It reads the guest's /proc/net/tcp and
// /proc/net/tcp6, so any agent will do that has files; a network namespace other than the
// agent's is not seen. It lists 4,096 at most.
func (c *Client) ListeningPorts(ctx context.Context) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		some, err := c.listening(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // A kernel without IPv6 has no tcp6.
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	all = slices.Compact(all)
	return all[:min(len(all), maxPorts)], nil
}

// listening reads one of the kernel's tables. Listening sockets come first in it, so that a
// guest with many connections costs no more.
func (c *Client) listening(ctx context.Context, name string) (all []netip.AddrPort, err error) {
	f, err := c.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // It was only read.
	lines := bufio.NewScanner(io.LimitReader(f, maxPortBytes))
	lines.Scan() // The head.
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		const local, state, listen = 1, 3, "0A" // TCP_LISTEN (include/net/tcp_states.h).
		if len(fields) <= state || fields[state] != listen {
			break
		}
		at, err := tableAddress(fields[local])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, at)
	}
	return all, lines.Err()
}

// tableAddress reads ADDRESS:PORT of the kernel's table: words of four bytes in the order of
// the processor, which is little endian on all that this project has, then the port.
func tableAddress(text string) (at netip.AddrPort, err error) {
	address, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(address)
	number, wrong := strconv.ParseUint(port, 16, 16)
	if err != nil || wrong != nil || len(b)%4 != 0 {
		return at, fmt.Errorf("address %.50q", text)
	}
	for w := b; len(w) > 0; w = w[4:] {
		binary.BigEndian.PutUint32(w, binary.LittleEndian.Uint32(w))
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok {
		return at, fmt.Errorf("address %.50q", text)
	}
	return netip.AddrPortFrom(ip, uint16(number)), nil
}

// WatchPorts gives the addresses of [Client.ListeningPorts], and then each that begins or
// ceases to be one, until ctx ends or an error, which comes last. It looks at intervals, 0 is
// [PortInterval], and only while the loop asks for more, so that nothing piles up: what began
// and ceased between two looks is not seen. A server that is started anew at once may look as if
// it went on.
func (c *Client) WatchPorts(ctx context.Context, interval time.Duration) iter.Seq2[PortEvent, error] {
	if interval <= 0 {
		interval = PortInterval
	}
	return func(yield func(PortEvent, error) bool) {
		var known []netip.AddrPort
		for {
			now, err := c.ListeningPorts(ctx)
			if err != nil {
				yield(PortEvent{}, err)
				return
			}
			for _, e := range portChanges(known, now) {
				if !yield(e, nil) {
					return
				}
			}
			known = now
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				yield(PortEvent{}, causeOf(ctx))
				return
			case <-c.Done():
				yield(PortEvent{}, c.Err())
				return
			}
		}
	}
}

// portChanges compares two sorted lists: what has ended comes first.
func portChanges(before, now []netip.AddrPort) (all []PortEvent) {
	for _, at := range before {
		if _, stays := slices.BinarySearchFunc(now, at, netip.AddrPort.Compare); !stays {
			all = append(all, PortEvent{Addr: at, Ended: true})
		}
	}
	for _, at := range now {
		if _, known := slices.BinarySearchFunc(before, at, netip.AddrPort.Compare); !known {
			all = append(all, PortEvent{Addr: at})
		}
	}
	return all
}
