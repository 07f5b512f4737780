package frame

// Id ranges of relay clients (protocol section 5.1). The 32-bit id space is divided
// into equal slots, one for each client of a relay. The ids between two slots belong to
// no client, so an off-by-one error in one slot cannot reach its neighbour.
const (
	// Slots is the number of clients that one relay can serve.
	Slots = 128
	// Step is the distance of two slots: the largest value for which Slots of
	// them fit below 1<<32.
	Step = 0xFFFFFFFF / Slots
)

// SlotRange returns the ids that the client in a slot may use: start and up,
// below end. The slot must be in 0…Slots-1.
func SlotRange(slot int) (start, end uint32) {
	base := uint32(slot) * Step
	return base + 1, base + Step
}

// SlotOf returns the slot that owns id. It reports false for the ids that belong to no
// slot: 0, those between two slots, and those above the last slot.
func SlotOf(id uint32) (slot int, ok bool) {
	if id%Step == 0 || id/Step >= Slots {
		return 0, false
	}
	return int(id / Step), true
}
