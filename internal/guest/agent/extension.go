package agent

import (
	"slices"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/wire"
)

// extensions are the vendor extensions that this agent has (protocol section 7.9), sorted.
var extensions = []string{wire.ExtensionArchive, wire.ExtensionFiles, wire.ExtensionKept, wire.ExtensionListen, wire.ExtensionUDP, wire.ExtensionUnix, wire.ExtensionWatch}

// announced is the value of Ready.Extensions. Without control groups there are no limits of
// one command.
func announced(p *proc.Table) []string {
	all := slices.Clone(extensions)
	if p != nil && p.Grouped() {
		all = append(all, wire.ExtensionLimits)
	}
	slices.Sort(all)
	return all
}
