package life

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// renew makes a machine that goes on from a saved state differ from the others that do.
// The commands are frozen: none sees a random number or a time of before. An error leaves
// them so.
func (l *Life) renew(r *wire.Renew) error {
	if err := checkRenew(r); err != nil {
		return err
	}
	if err := freshen(&r.Fresh); err != nil {
		return err
	}
	var err error
	if r.Twin {
		err = l.machine.RenewBootID()
	}
	if r.Hostname != nil {
		err = errors.Join(err, l.machine.Rename(*r.Hostname))
	}
	if r.MachineID != nil {
		err = errors.Join(err, l.machine.SetMachineID(*r.MachineID))
	}
	if r.Disconnect {
		sys.Disconnect()
	}
	return err
}

func checkRenew(r *wire.Renew) error {
	const digits = 32
	if id := r.MachineID; id != nil && (len(*id) != digits || strings.Trim(*id, "0123456789abcdef") != "") {
		return fmt.Errorf("machine_id %q: want %d hexadecimal digits", *id, digits)
	}
	if r.Hostname != nil {
		return plan.CheckHostname(*r.Hostname)
	}
	return nil
}
