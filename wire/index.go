package wire

import "github.com/agentd-go/agentd/wire/frame"

// Generation is a version of the protocol. A sender puts its own into every envelope,
// and sends nothing that the peer's generation does not have.
type Generation uint8

// Newest is the newest generation that we announce. 8 has raw bulk records; 9 has transport
// credit, freezing and the growth of the root disk.
const Newest Generation = 9

// BulkSince is the first generation that has raw records, the leases of clients that
// they need, and the second port.
const BulkSince Generation = 8

// BarrierSince is the first generation that has transport credit, freezing, and the growth
// of the root disk.
const BarrierSince Generation = 9

// Type names a message.
type Type string

// The messages of all generations, in the order of the protocol's index.
const (
	TypeInitResolved            Type = "core.init.resolved"
	TypeInitAck                 Type = "core.init.ack"
	TypeReady                   Type = "core.ready"
	TypeShutdown                Type = "core.shutdown"
	TypeClientDisconnected      Type = "core.relay.client.disconnected"
	TypeClockSync               Type = "core.clock.sync"
	TypeExecRequest             Type = "core.exec.request"
	TypeExecStarted             Type = "core.exec.started"
	TypeExecStdin               Type = "core.exec.stdin"
	TypeExecStdinError          Type = "core.exec.stdin.error"
	TypeExecStdout              Type = "core.exec.stdout"
	TypeExecStderr              Type = "core.exec.stderr"
	TypeExecExited              Type = "core.exec.exited"
	TypeExecFailed              Type = "core.exec.failed"
	TypeExecResize              Type = "core.exec.resize"
	TypeExecSignal              Type = "core.exec.signal"
	TypeFSRequest               Type = "core.fs.request"
	TypeFSResponse              Type = "core.fs.response"
	TypeFSData                  Type = "core.fs.data"
	TypeTCPConnect              Type = "core.tcp.connect"
	TypeTCPConnected            Type = "core.tcp.connected"
	TypeTCPData                 Type = "core.tcp.data"
	TypeTCPEOF                  Type = "core.tcp.eof"
	TypeTCPClose                Type = "core.tcp.close"
	TypeTCPClosed               Type = "core.tcp.closed"
	TypeTCPFailed               Type = "core.tcp.failed"
	TypeProtocolError           Type = "core.error"
	TypePing                    Type = "core.ping"
	TypePong                    Type = "core.pong"
	TypeTouch                   Type = "core.touch"
	TypeTouched                 Type = "core.touched"
	TypeBootstrap               Type = "core.bootstrap"
	TypeBulkAccepted            Type = "core.bulk.accepted"
	TypeBulkCredit              Type = "core.bulk.credit"
	TypeBulkFinish              Type = "core.bulk.finish"
	TypeBulkCancel              Type = "core.bulk.cancel"
	TypeWorkloadFreeze          Type = "core.workload.freeze"
	TypeWorkloadThaw            Type = "core.workload.thaw"
	TypeWorkloadFrozen          Type = "core.workload.frozen"
	TypeWorkloadThawed          Type = "core.workload.thawed"
	TypeWorkloadTransportCredit Type = "core.workload.transport.credit" //nolint:gosec // no credentials, a type name
	TypeRootDiskPrepare         Type = "core.root_disk.prepare"
	TypeRootDiskGrow            Type = "core.root_disk.grow"
	TypeRootDiskState           Type = "core.root_disk.state"

	// Of the extension "kept".
	TypeKeptAttach   Type = "core.kept.attach"
	TypeKeptConsumed Type = "core.kept.consumed"
	TypeKeptGap      Type = "core.kept.gap"
	TypeKeptInput    Type = "core.kept.input"
	TypeKeptDetach   Type = "core.kept.detach"
	TypeKeptDetached Type = "core.kept.detached"
	TypeKeptList     Type = "core.kept.list"
	TypeKeptListed   Type = "core.kept.listed"
	TypeKeptRelease  Type = "core.kept.release"
	TypeKeptReleased Type = "core.kept.released"
)

// Direction is the direction in which a message is sent.
type Direction uint8

// The directions.
const (
	HostToGuest Direction = 1 << iota
	GuestToHost
	Both = HostToGuest | GuestToHost
)

// Vendor is the generation of the messages of vendor extensions. Any agent may have them:
// core.ready names the extensions of one.
const Vendor Generation = 0

// Info has the fixed properties of a message type.
type Info struct {
	Type      Type
	Direction Direction
	Since     Generation  // the first generation that has it, or Vendor
	Flags     frame.Flags // exactly these, on every frame of this type
}

// row is an entry of the message index.
type row struct {
	Info
	make func() Message // with the defaults of fields that may be missing
}

// rows is the message index.
var rows = []row{
	{Info{TypeInitResolved, GuestToHost, 1, 0}, func() Message { return new(InitResolved) }},
	{Info{TypeInitAck, HostToGuest, 1, 0}, func() Message { return new(InitAck) }},
	{Info{TypeReady, GuestToHost, 1, 0}, func() Message { return new(Ready) }},
	{Info{TypeShutdown, HostToGuest, 1, frame.Shutdown}, func() Message { return new(Shutdown) }},
	{Info{TypeClientDisconnected, HostToGuest, 1, 0}, func() Message { return new(ClientDisconnected) }},
	{Info{TypeClockSync, HostToGuest, 1, 0}, func() Message { return new(ClockSync) }},
	{Info{TypeExecRequest, HostToGuest, 1, frame.SessionStart}, newExecRequest},
	{Info{TypeExecStarted, GuestToHost, 1, 0}, func() Message { return new(ExecStarted) }},
	{Info{TypeExecStdin, HostToGuest, 1, 0}, func() Message { return new(ExecStdin) }},
	{Info{TypeExecStdinError, GuestToHost, 1, 0}, func() Message { return new(ExecStdinError) }},
	{Info{TypeExecStdout, GuestToHost, 1, 0}, func() Message { return new(ExecStdout) }},
	{Info{TypeExecStderr, GuestToHost, 1, 0}, func() Message { return new(ExecStderr) }},
	{Info{TypeExecExited, GuestToHost, 1, frame.Terminal}, func() Message { return new(ExecExited) }},
	{Info{TypeExecFailed, GuestToHost, 1, frame.Terminal}, func() Message { return new(ExecFailed) }},
	{Info{TypeExecResize, HostToGuest, 1, 0}, func() Message { return new(ExecResize) }},
	{Info{TypeExecSignal, HostToGuest, 1, 0}, func() Message { return new(ExecSignal) }},
	{Info{TypeFSRequest, HostToGuest, 2, frame.SessionStart}, func() Message { return new(FSRequest) }},
	{Info{TypeFSResponse, GuestToHost, 2, frame.Terminal}, func() Message { return new(FSResponse) }},
	{Info{TypeFSData, Both, 2, 0}, func() Message { return new(FSData) }},
	{Info{TypeTCPConnect, HostToGuest, 4, frame.SessionStart}, func() Message { return new(TCPConnect) }},
	{Info{TypeTCPConnected, GuestToHost, 4, 0}, func() Message { return new(TCPConnected) }},
	{Info{TypeTCPData, Both, 4, 0}, func() Message { return new(TCPData) }},
	{Info{TypeTCPEOF, Both, 4, 0}, func() Message { return new(TCPEOF) }},
	{Info{TypeTCPClose, HostToGuest, 4, 0}, func() Message { return new(TCPClose) }},
	{Info{TypeTCPClosed, GuestToHost, 4, frame.Terminal}, func() Message { return new(TCPClosed) }},
	{Info{TypeTCPFailed, GuestToHost, 4, frame.Terminal}, func() Message { return new(TCPFailed) }},
	{Info{TypeProtocolError, GuestToHost, 5, frame.Terminal}, func() Message { return new(ProtocolError) }},
	{Info{TypePing, HostToGuest, 6, 0}, func() Message { return new(Ping) }},
	{Info{TypePong, GuestToHost, 6, frame.Terminal}, func() Message { return new(Pong) }},
	{Info{TypeTouch, HostToGuest, 6, 0}, func() Message { return new(Touch) }},
	{Info{TypeTouched, GuestToHost, 6, frame.Terminal}, func() Message { return new(Touched) }},
	{Info{TypeBootstrap, HostToGuest, 7, 0}, func() Message { return new(Bootstrap) }},
	{Info{TypeBulkAccepted, GuestToHost, 8, 0}, func() Message { return new(BulkAccepted) }},
	{Info{TypeBulkCredit, Both, 8, 0}, func() Message { return new(BulkCredit) }},
	{Info{TypeBulkFinish, Both, 8, 0}, func() Message { return new(BulkFinish) }},
	{Info{TypeBulkCancel, Both, 8, 0}, func() Message { return new(BulkCancel) }},
	{Info{TypeWorkloadFreeze, HostToGuest, 9, 0}, func() Message { return new(WorkloadFreeze) }},
	{Info{TypeWorkloadThaw, HostToGuest, 9, 0}, func() Message { return new(WorkloadThaw) }},
	{Info{TypeWorkloadFrozen, GuestToHost, 9, frame.Terminal}, func() Message { return new(WorkloadFrozen) }},
	{Info{TypeWorkloadThawed, GuestToHost, 9, frame.Terminal}, func() Message { return new(WorkloadThawed) }},
	{Info{TypeWorkloadTransportCredit, GuestToHost, 9, 0}, func() Message { return new(WorkloadTransportCredit) }},
	{Info{TypeRootDiskPrepare, HostToGuest, 9, 0}, func() Message { return new(RootDiskPrepare) }},
	{Info{TypeRootDiskGrow, HostToGuest, 9, 0}, func() Message { return new(RootDiskGrow) }},
	{Info{TypeRootDiskState, GuestToHost, 9, frame.Terminal}, func() Message { return new(RootDiskState) }},

	{Info{TypeKeptAttach, HostToGuest, Vendor, frame.SessionStart}, newKeptAttach},
	{Info{TypeKeptConsumed, HostToGuest, Vendor, 0}, func() Message { return new(KeptConsumed) }},
	{Info{TypeKeptGap, GuestToHost, Vendor, 0}, func() Message { return new(KeptGap) }},
	{Info{TypeKeptInput, GuestToHost, Vendor, 0}, func() Message { return new(KeptInput) }},
	{Info{TypeKeptDetach, HostToGuest, Vendor, 0}, func() Message { return new(KeptDetach) }},
	{Info{TypeKeptDetached, GuestToHost, Vendor, frame.Terminal}, func() Message { return new(KeptDetached) }},
	{Info{TypeKeptList, HostToGuest, Vendor, frame.SessionStart}, func() Message { return new(KeptList) }},
	{Info{TypeKeptListed, GuestToHost, Vendor, frame.Terminal}, func() Message { return new(KeptListed) }},
	{Info{TypeKeptRelease, HostToGuest, Vendor, frame.SessionStart}, func() Message { return new(KeptRelease) }},
	{Info{TypeKeptReleased, GuestToHost, Vendor, frame.Terminal}, func() Message { return new(KeptReleased) }},
}

// place returns the index of a message in rows, or -1. For so few names, which mostly
// differ in length, a search is as quick as a map, and it costs nothing when a program
// starts.
func place(t Type) int {
	last := len(t) - 1
	if last < 0 {
		return -1
	}
	for i := range rows { // Most rows differ in the length or in the last letter.
		if r := rows[i].Type; len(r) == len(t) && r[last] == t[last] && r == t {
			return i
		}
	}
	return -1
}

// Lookup returns the fixed properties of a message type. ok is false for an unknown
// type.
func Lookup(t Type) (Info, bool) {
	i := place(t)
	if i < 0 {
		return Info{}, false
	}
	return rows[i].Info, true
}

// Types returns all messages in the order of the protocol's index.
func Types() []Info {
	all := make([]Info, len(rows))
	for i, r := range rows {
		all[i] = r.Info
	}
	return all
}
