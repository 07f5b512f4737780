package client

import (
	"math"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// An AgentInfo has the facts that an agent reports when it becomes ready. Times are the
// guest's, since its kernel began (CLOCK_BOOTTIME).
type AgentInfo struct {
	Version string        // For people; "" if the agent does not say.
	Started time.Duration // When the agent began.
	Setup   time.Duration // How long the agent took to set the machine up.
	Ready   time.Duration // When the agent said that it is ready.

	// SecondPort says that raw records have a port of their own.
	SecondPort bool
}

func agentInfo(r wire.Ready) AgentInfo {
	return AgentInfo{
		Version: r.AgentVersion, Started: duration(r.BootTimeNS), Setup: duration(r.InitTimeNS), Ready: duration(r.ReadyTimeNS),
		SecondPort: r.BulkTransport != nil,
	}
}

// duration is not negative, whatever the guest says.
func duration(ns uint64) time.Duration { return time.Duration(min(ns, math.MaxInt64)) }
