package client

import (
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/wire"
)

// The extensions of this project's agent that a call may need. Other agents, and older
// ones of this project, do not have them.
const (
	ExtensionArchive = wire.ExtensionArchive // Client.Pack and Client.Unpack.
	ExtensionFiles   = wire.ExtensionFiles   // Client.Link, Client.Xattr, File.Lock and the like; nanoseconds.
	ExtensionKept    = wire.ExtensionKept    // Commands that outlive their client.
	ExtensionLimits  = wire.ExtensionLimits  // Control groups of commands: Resources, Usage, KillTree.
	ExtensionListen  = wire.ExtensionListen  // Client.Listen, and Conn.SetLinger.
	ExtensionUDP     = wire.ExtensionUDP     // Client.DialContext of "udp".
	ExtensionUnix    = wire.ExtensionUnix    // Client.DialContext of "unix".
	ExtensionWatch   = wire.ExtensionWatch   // Client.Watch.
)

// Has reports whether the agent has an extension.
func (c *Client) Has(extension string) bool { return c.ready.HasExtension(extension) }

// An ExtensionError says that the agent does not have the extension that a call needs.
// Nothing was sent. It is [errors.ErrUnsupported].
type ExtensionError struct {
	Feature   string // The call, in words.
	Extension string // The name, such as "kept".
}

// Error returns a line for people.
func (e *ExtensionError) Error() string {
	return fmt.Sprintf("%s: the agent does not have the extension %q", e.Feature, e.Extension)
}

// Is reports whether target is [errors.ErrUnsupported].
func (*ExtensionError) Is(target error) bool { return target == errors.ErrUnsupported }

// needs returns an [*ExtensionError] if the agent does not have an extension.
func (c *Client) needs(extension, feature string) error {
	if c.Has(extension) {
		return nil
	}
	return &ExtensionError{Feature: feature, Extension: extension}
}
