package contract

import "github.com/agentd-go/agentd/wire"

func growthRules() []Rule {
	return []Rule{{Name: "growth: a root on no disk", Check: growNothing}}
}

// growNothing asks an agent whose root is on no disk.
func growNothing(h *Host) error {
	for _, size := range []uint64{0, 1, 1 << 30, 1 << 63} {
		for _, m := range []wire.Message{&wire.RootDiskPrepare{SizeBytes: size}, &wire.RootDiskGrow{SizeBytes: size}} {
			id := h.ID()
			if err := h.Put(id, m); err != nil {
				return err
			}
			if err := h.refused(id, m.Type(), wire.ErrorUnavailable, "root has no pinned block filesystem", "", ""); err != nil {
				return err
			}
		}
	}
	return h.Settle(none)
}
