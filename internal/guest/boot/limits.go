package boot

import (
	"fmt"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// The resources that can end the agent itself, by the kernel's numbers: its
// processor time, file size, and address space.
const (
	resourceCPU     plan.Resource = 0
	resourceFSize   plan.Resource = 1
	resourceData    plan.Resource = 2
	resourceNoFile  plan.Resource = 7
	resourceAddress plan.Resource = 9
)

// agentFiles is how many descriptors the agent needs for all its sessions: three
// for each of 1024, and some of its own. The kernel's default hard limit is as much.
const agentFiles = 4096

// limits sets the limits on the agent; every process inherits them. Limits that the agent
// could not run with are set at each command's start instead.
func (m *Machine) limits(s plan.Limits) error {
	for _, l := range s.Limits {
		if deadly(l) {
			m.CommandLimits = append(m.CommandLimits, l)
			continue
		}
		if err := sys.SetLimit(int(l.Resource), l.Soft, l.Hard); err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
	}
	return nil
}

func deadly(l plan.Limit) bool {
	switch l.Resource {
	case resourceCPU, resourceFSize, resourceData, resourceAddress:
		return l.Soft != plan.Infinity
	case resourceNoFile:
		return l.Soft < agentFiles
	}
	return false
}
