package wire

// The names of the vendor extensions, which core.ready announces in Ready.Extensions.
// PROTOCOL.md section 7.9 has a table of them.
const (
	ExtensionArchive = "archive" // OpPack and OpUnpack.
	ExtensionFiles   = "files"   // OpCall, OpFileCall, FSEntry.Exact, and nanoseconds in FSAttrs.
	ExtensionKept    = "kept"    // Commands that outlive their client.
	ExtensionLimits  = "limits"  // Control groups of commands.
	ExtensionListen  = "listen"  // TCPConnect.Listen, TCPConnect.Listener and TCPClose.Reset.
	ExtensionUDP     = "udp"     // TCPConnect.UDP.
	ExtensionUnix    = "unix"    // TCPConnect.Unix.
	ExtensionWatch   = "watch"   // OpWatch.
)

const (
	// MaxExtensions bounds the names that a receiver looks at: a few for each area of the
	// protocol.
	MaxExtensions = 64

	// MaxExtensionName is the length of the longest name in bytes.
	MaxExtensionName = 32
)

// HasExtension reports whether the agent has an extension. Names after the first
// MaxExtensions are not looked at.
func (m *Ready) HasExtension(name string) bool {
	for i, have := range m.Extensions {
		if i == MaxExtensions {
			break
		}
		if have == name {
			return true
		}
	}
	return false
}
