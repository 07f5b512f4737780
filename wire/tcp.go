package wire

// The networks of TCPConnect.Listen, as package net has them.
const (
	NetTCP  = "tcp"
	NetTCP4 = "tcp4"
	NetTCP6 = "tcp6"
	NetUnix = "unix"
)

// TCPConnect opens a connection from inside the guest, or listens there.
type TCPConnect struct {
	Host string // a name or an address, IPv6 without brackets
	Port uint16
	Unix string // with ExtensionUnix: the name of a socket, with "" and 0 for the others
	UDP  bool   // with ExtensionUDP: the bytes are datagrams, each after a head
	Bulk *BulkOffer

	// With ExtensionListen. Listen makes the session a listener at the address: it is
	// NetTCP, NetTCP4, NetTCP6 or NetUnix. Listener is the id of one of the same client, whose
	// next connection the session becomes.
	Listen   string
	Listener *uint32
}

// Type returns TypeTCPConnect.
func (*TCPConnect) Type() Type { return TypeTCPConnect }

func (m *TCPConnect) fields() []field {
	return []field{
		required("host", text(&m.Host)),
		required("port", num(&m.Port)),
		omitted("unix", text(&m.Unix)),
		omitted("bulk", optionalObject(&m.Bulk)).since(8),
		omitted("udp", truth(&m.UDP)),
		omitted("listen", text(&m.Listen)),
		omitted("listener", optionalNumber(&m.Listener)),
	}
}

// TCPConnected says that the connection is established, or that the guest listens.
type TCPConnected struct {
	Local, Remote string // addresses of listeners, their connections and UDP sockets; "" for others
}

// Type returns TypeTCPConnected.
func (*TCPConnected) Type() Type { return TypeTCPConnected }

func (m *TCPConnected) fields() []field {
	return []field{
		omitted("local", text(&m.Local)),
		omitted("remote", text(&m.Remote)),
	}
}

// TCPData is data of a connection, in either direction.
type TCPData struct {
	Data []byte
}

// Type returns TypeTCPData.
func (*TCPData) Type() Type { return TypeTCPData }

func (m *TCPData) fields() []field {
	return []field{required(dataField, data(&m.Data))}
}

// TCPEOF ends the sender's direction of a connection.
type TCPEOF struct{}

// Type returns TypeTCPEOF.
func (*TCPEOF) Type() Type { return TypeTCPEOF }

func (*TCPEOF) fields() []field { return nil }

// TCPClose aborts a connection. It has no answer.
type TCPClose struct {
	Reset bool // with ExtensionListen: the peer gets a reset, and takes nothing for whole
}

// Type returns TypeTCPClose.
func (*TCPClose) Type() Type { return TypeTCPClose }

func (m *TCPClose) fields() []field { return []field{omitted("reset", truth(&m.Reset))} }

// TCPClosed says that both directions of a connection have ended.
type TCPClosed struct{}

// Type returns TypeTCPClosed.
func (*TCPClosed) Type() Type { return TypeTCPClosed }

func (*TCPClosed) fields() []field { return nil }

// TCPFailed says why a connection could not be established, or why it broke.
type TCPFailed struct {
	Error string
}

// Type returns TypeTCPFailed.
func (*TCPFailed) Type() Type { return TypeTCPFailed }

func (m *TCPFailed) fields() []field {
	return []field{required("error", text(&m.Error))}
}
