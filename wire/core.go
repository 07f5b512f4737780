package wire

// InitResolved is the guest's first frame: its init is done and it knows the user
// that commands run as.
type InitResolved struct {
	DefaultUser User
}

// User is a user and group of the guest.
type User struct {
	UID, GID uint32
}

func (u *User) fields() []field {
	return []field{
		required("uid", num(&u.UID)),
		required("gid", num(&u.GID)),
	}
}

// Type returns TypeInitResolved.
func (*InitResolved) Type() Type { return TypeInitResolved }

func (m *InitResolved) fields() []field {
	return []field{required("default_user", object(&m.DefaultUser))}
}

// InitAck is the host's answer to InitResolved.
type InitAck struct{}

// Type returns TypeInitAck.
func (*InitAck) Type() Type { return TypeInitAck }

func (*InitAck) fields() []field { return nil }

// Ready is sent once, when the guest begins to serve requests.
type Ready struct {
	BootTimeNS   uint64 // CLOCK_BOOTTIME when the agent started
	InitTimeNS   uint64 // how long the set-up took
	ReadyTimeNS  uint64 // CLOCK_BOOTTIME when this was sent
	AgentVersion string // diagnostics only; "" is not sent

	BulkTransport  *BulkTransport  // generation 8: a second port is bound
	RelayLease     *RelayLease     // generation 8: leases are acknowledged
	LocalTransport *LocalTransport // added by a relay for its clients, never by an agent

	// WorkloadTransportBarrierVersion, of generation 9, obliges the host to count its
	// frames against the guest's transport credit. The only value is 2.
	WorkloadTransportBarrierVersion *uint8

	// Fresh, an extension of ours, confirms Bootstrap.Fresh: the clock and the random
	// generator are now this guest's own. It is sent only to hosts that sent that.
	Fresh bool

	// Extensions has the names of the vendor extensions of ours that the agent has, sorted.
	// Hosts that do not know the field ignore it.
	Extensions []string
}

// Type returns TypeReady.
func (*Ready) Type() Type { return TypeReady }

func (m *Ready) fields() []field {
	return []field{
		required("boot_time_ns", num(&m.BootTimeNS)),
		required("init_time_ns", num(&m.InitTimeNS)),
		required("ready_time_ns", num(&m.ReadyTimeNS)),
		omitted("agent_version", text(&m.AgentVersion)),
		omitted("bulk_transport", optionalObject(&m.BulkTransport)).since(8),
		omitted("relay_lease", optionalObject(&m.RelayLease)).since(8),
		omitted("local_transport", optionalObject(&m.LocalTransport)).since(8),
		omitted("workload_transport_barrier_version", optionalNumber(&m.WorkloadTransportBarrierVersion)).since(9),
		omitted("fresh", truth(&m.Fresh)).since(7),
		omitted("extensions", texts(&m.Extensions)),
	}
}

// BulkTransport names the second port, for raw bulk records.
type BulkTransport struct {
	Profile      string // "dual-port-v1"
	Port         string // "agent-bulk"
	ConnectionID [16]byte
}

func (b *BulkTransport) fields() []field {
	return []field{
		required("profile", text(&b.Profile)),
		required("port", text(&b.Port)),
		required("connection_id", array(b.ConnectionID[:])),
	}
}

// The second port (protocol section 14): its name, what announces it, and the word
// on the kernel command line by which a host asks for it.
const (
	SecondPort        = "agent-bulk"
	SecondPortProfile = "dual-port-v1"
	SecondPortWord    = "microsandbox.agent_transport=" + SecondPortProfile
)

// ReturningHostWord is the word on the kernel command line by which a host says that it, or
// another host process, may close the agent's port and open it again: the end of the port is
// then not the end of the machine (protocol section 1).
const ReturningHostWord = "agentd.host=returns"

// PortGreeting is the first message of the guest on the second port. The host's answer
// has the same form and repeats the 16 bytes that name the connection.
type PortGreeting [24]byte

// GreetPort makes the guest's greeting.
func GreetPort(connection [16]byte) PortGreeting { return greeting("MSBB", connection) }

// AnswerPort makes the host's answer.
func AnswerPort(connection [16]byte) PortGreeting { return greeting("MSBA", connection) }

// greeting is of format 1, for generations from 8 on.
func greeting(magic string, connection [16]byte) (g PortGreeting) {
	const format, least = 1, 8
	copy(g[:], magic)
	g[4], g[5] = format, least
	copy(g[8:], connection[:])
	return g
}

// Connection is the name of the connection.
func (g PortGreeting) Connection() [16]byte { return [16]byte(g[8:]) }

// RelayLease announces the newest format of lease records that the guest takes.
type RelayLease struct {
	MaxFormat uint8
}

func (r *RelayLease) fields() []field {
	return []field{required("max_format", num(&r.MaxFormat))}
}

// LocalTransport announces a relay's shared-memory transport for its clients.
type LocalTransport struct {
	MaxFormat uint8
}

func (l *LocalTransport) fields() []field {
	return []field{required("max_format", num(&l.MaxFormat))}
}

// Shutdown ends the machine. Its payload is null, and receivers do not read it.
type Shutdown struct{}

// Type returns TypeShutdown.
func (*Shutdown) Type() Type { return TypeShutdown }

func (*Shutdown) fields() []field { return nil }

// ClientDisconnected tells the guest that a client of the relay has left. The guest
// ends all sessions in that client's range of ids.
type ClientDisconnected struct {
	IDStart, IDEndExclusive uint32
	Incarnation             *[16]byte // generation 8: the lease that ends
}

// Type returns TypeClientDisconnected.
func (*ClientDisconnected) Type() Type { return TypeClientDisconnected }

func (m *ClientDisconnected) fields() []field {
	return []field{
		required("id_start", num(&m.IDStart)),
		required("id_end_exclusive", num(&m.IDEndExclusive)),
		omitted("incarnation", optional(&m.Incarnation, array16)).since(8),
	}
}

func array16(p *[16]byte) value { return array(p[:]) }

// ClockSync tells the guest what time it is.
type ClockSync struct {
	UnixTimeNanos uint64
}

// Type returns TypeClockSync.
func (*ClockSync) Type() Type { return TypeClockSync }

func (m *ClockSync) fields() []field {
	return []field{required("unix_time_nanos", num(&m.UnixTimeNanos))}
}

// ErrorKind is the reason in a ProtocolError. Unknown kinds decode too, because later
// agents may add some.
type ErrorKind string

// The kinds of protocol error.
const (
	ErrorInvalidFlags          ErrorKind = "invalid_flags"
	ErrorInvalidPayload        ErrorKind = "invalid_payload"
	ErrorInvalidSession        ErrorKind = "invalid_session"
	ErrorUnsupportedType       ErrorKind = "unsupported_message_type"
	ErrorUnsupportedGeneration ErrorKind = "unsupported_protocol_generation"
	ErrorMalformed             ErrorKind = "malformed_message"
	ErrorUnavailable           ErrorKind = "capability_unavailable" // generation 9
	ErrorInitialization        ErrorKind = "initialization_failed"  // from agents whose boot fails
)

// InitFailure says which name in a configuration made a boot fail. Unknown values
// decode too.
type InitFailure string

// The failures.
const (
	InitUserNotFound  InitFailure = "user_not_found"
	InitGroupNotFound InitFailure = "group_not_found"
	InitUnknown       InitFailure = "unknown" // any other reason; the message has it
)

// ProtocolError refuses a frame, on that frame's id. On id 0, in place of core.ready,
// it says why a boot has failed.
type ProtocolError struct {
	Kind            ErrorKind
	Message         string
	OffendingType   Type // "" if it could not be read
	WorkloadFailure *WorkloadFailure
	InitFailure     InitFailure // with ErrorInitialization, else ""
}

// WorkloadFailure describes the state after a failed freeze or thaw.
type WorkloadFailure struct {
	AttemptID   string
	Disposition string // "unavailable" or "recovery_required"
}

func (w *WorkloadFailure) fields() []field {
	return []field{
		required("attempt_id", text(&w.AttemptID)),
		required("disposition", text(&w.Disposition)),
	}
}

// Type returns TypeProtocolError.
func (*ProtocolError) Type() Type { return TypeProtocolError }

func (m *ProtocolError) fields() []field {
	return []field{
		required("kind", text(&m.Kind)),
		required("message", text(&m.Message)),
		omitted("offending_type", text(&m.OffendingType)),
		omitted("workload_failure", optionalObject(&m.WorkloadFailure)).since(9),
		omitted("init_failure", text(&m.InitFailure)),
	}
}

// Ping asks for a Pong. It does not count as activity.
type Ping struct{}

// Type returns TypePing.
func (*Ping) Type() Type { return TypePing }

func (*Ping) fields() []field { return nil }

// Pong answers a Ping.
type Pong struct{}

// Type returns TypePong.
func (*Pong) Type() Type { return TypePong }

func (*Pong) fields() []field { return nil }

// Touch counts as activity and does nothing else.
type Touch struct{}

// Type returns TypeTouch.
func (*Touch) Type() Type { return TypeTouch }

func (*Touch) fields() []field { return nil }

// Touched answers a Touch.
type Touched struct {
	ActivitySeq uint64 // with the touch already counted
}

// Type returns TypeTouched.
func (*Touched) Type() Type { return TypeTouched }

func (m *Touched) fields() []field {
	return []field{required("activity_seq", num(&m.ActivitySeq))}
}
