package wire

// TCPConnect opens a connection from inside the guest.
type TCPConnect struct {
	Host string // a name or an address, IPv6 without brackets
	Port uint16
	Unix string // with ExtensionUnix: the name of a socket, with "" and 0 for the others
	Bulk *BulkOffer
}

// Type returns TypeTCPConnect.
func (*TCPConnect) Type() Type { return TypeTCPConnect }

func (m *TCPConnect) fields() []field {
	return []field{
		required("host", text(&m.Host)),
		required("port", num(&m.Port)),
		omitted("unix", text(&m.Unix)),
		omitted("bulk", optionalObject(&m.Bulk)).since(8),
	}
}

// TCPConnected says that the connection is established.
type TCPConnected struct{}

// Type returns TypeTCPConnected.
func (*TCPConnected) Type() Type { return TypeTCPConnected }

func (*TCPConnected) fields() []field { return nil }

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
type TCPClose struct{}

// Type returns TypeTCPClose.
func (*TCPClose) Type() Type { return TypeTCPClose }

func (*TCPClose) fields() []field { return nil }

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
