package wire

// BulkKind is the kind of session to which a raw bulk flow belongs.
type BulkKind uint8

// The kinds of bulk flow.
const (
	BulkFS BulkKind = 1 + iota
	BulkTCP
)

// BulkFlow is a direction of raw bulk data. The values are also the bits of
// BulkAccepted.Flows.
type BulkFlow uint8

// The flows.
const (
	FlowHostToGuest BulkFlow = 1 << iota
	FlowGuestToHost
	flowBoth = FlowHostToGuest | FlowGuestToHost
)

func kindOf(p *BulkKind) value { return between(p, BulkFS, BulkTCP) }
func flowOf(p *BulkFlow) value { return between(p, FlowHostToGuest, FlowGuestToHost) }

// BulkOffer is the part of a request that offers to move its data as raw records.
type BulkOffer struct {
	Format                 uint16 // 1
	MaxRecordPayload       uint32
	GuestToHostCreditLimit uint64 // bytes that the guest may send before a credit
}

func (b *BulkOffer) fields() []field {
	return []field{
		required("format", num(&b.Format)),
		required("max_record_payload", num(&b.MaxRecordPayload)),
		required("guest_to_host_credit_limit", num(&b.GuestToHostCreditLimit)),
	}
}

// BulkAccepted accepts a BulkOffer.
type BulkAccepted struct {
	Kind                   BulkKind
	Flows                  BulkFlow // one or both
	Format                 uint16
	MaxRecordPayload       uint32
	HostToGuestCreditLimit uint64
	GuestToHostCreditLimit uint64
}

// Type returns TypeBulkAccepted.
func (*BulkAccepted) Type() Type { return TypeBulkAccepted }

func (m *BulkAccepted) fields() []field {
	return []field{
		required("kind", kindOf(&m.Kind)),
		required("flows", between(&m.Flows, FlowHostToGuest, flowBoth)),
		required("format", num(&m.Format)),
		required("max_record_payload", num(&m.MaxRecordPayload)),
		required("host_to_guest_credit_limit", num(&m.HostToGuestCreditLimit)),
		required("guest_to_host_credit_limit", num(&m.GuestToHostCreditLimit)),
	}
}

// BulkCredit allows a flow's sender to send more. Both values count from the flow's
// start.
type BulkCredit struct {
	Kind           BulkKind
	Flow           BulkFlow
	ConsumedOffset uint64
	CreditLimit    uint64
}

// Type returns TypeBulkCredit.
func (*BulkCredit) Type() Type { return TypeBulkCredit }

func (m *BulkCredit) fields() []field {
	return []field{
		required("kind", kindOf(&m.Kind)),
		required("flow", flowOf(&m.Flow)),
		required("consumed_offset", num(&m.ConsumedOffset)),
		required("credit_limit", num(&m.CreditLimit)),
	}
}

// BulkFinish has the final length of a flow. It may overtake the last records.
type BulkFinish struct {
	Kind        BulkKind
	Flow        BulkFlow
	FinalOffset uint64
}

// Type returns TypeBulkFinish.
func (*BulkFinish) Type() Type { return TypeBulkFinish }

func (m *BulkFinish) fields() []field {
	return []field{
		required("kind", kindOf(&m.Kind)),
		required("flow", flowOf(&m.Flow)),
		required("final_offset", num(&m.FinalOffset)),
	}
}

// CancelReason is the reason why a flow was cancelled.
type CancelReason uint8

// The reasons.
const (
	CancelCaller CancelReason = 1 + iota
	CancelDestination
	CancelResource
	CancelTransport
	CancelProtocol
)

// BulkCancel cancels a flow.
type BulkCancel struct {
	Kind    BulkKind
	Reason  CancelReason
	Message string
}

// Type returns TypeBulkCancel.
func (*BulkCancel) Type() Type { return TypeBulkCancel }

func (m *BulkCancel) fields() []field {
	return []field{
		required("kind", kindOf(&m.Kind)),
		required("reason", between(&m.Reason, CancelCaller, CancelProtocol)),
		required("message", text(&m.Message)),
	}
}
