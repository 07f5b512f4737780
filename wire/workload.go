package wire

// WorkloadID is the id of the messages about freezing and transport credit. It is the
// last id and belongs to no client.
const WorkloadID uint32 = 0xFFFFFFFF

// TransportCounters are running totals of what the host has sent, or may send,
// since the boot handshake. A counted frame is charged with its whole length.
type TransportCounters struct {
	ControlBytes, ControlFrames uint64
	BulkBytes, BulkFrames       uint64
}

func (c *TransportCounters) fields() []field {
	return []field{
		required("control_bytes", num(&c.ControlBytes)),
		required("control_frames", num(&c.ControlFrames)),
		required("bulk_bytes", num(&c.BulkBytes)),
		required("bulk_frames", num(&c.BulkFrames)),
	}
}

// FirstCredit is how much a host may send to an agent with transport credit before the
// agent grants more.
func FirstCredit() TransportCounters {
	return TransportCounters{ControlBytes: 8 << 20, ControlFrames: 256, BulkBytes: 32 << 20, BulkFrames: 256}
}

// BarrierVersion is the only value of Ready.WorkloadTransportBarrierVersion.
const BarrierVersion = 2

// CountsAsData reports whether frames of a type count as bulk against transport credit, as
// raw records do.
func CountsAsData(t Type) bool {
	return t == TypeExecStdin || t == TypeFSData || t == TypeTCPData || t == TypeTCPEOF
}

// WorkloadFreeze stops all commands after everything that the host has sent has arrived.
type WorkloadFreeze struct {
	AttemptID         string
	HostInput         TransportCounters
	ExternalMountTags []string // mounts to write back: a virtiofs tag, or path:/abs
}

// Type returns TypeWorkloadFreeze.
func (*WorkloadFreeze) Type() Type { return TypeWorkloadFreeze }

func (m *WorkloadFreeze) fields() []field {
	return []field{
		required("attempt_id", text(&m.AttemptID)),
		required("host_input", object(&m.HostInput)),
		defaulted("external_mount_tags", texts(&m.ExternalMountTags)),
	}
}

// ThawMode decides what becomes of the sessions after a freeze.
type ThawMode string

// The modes of thawing. An unknown one does not decode.
const (
	ThawContinue ThawMode = "continue"
	ThawRestore  ThawMode = "restore" // the sessions' host is gone: detach them
)

// WorkloadThaw lets the commands continue.
type WorkloadThaw struct {
	AttemptID string
	Mode      ThawMode

	// Renew, an extension of ours, is for a guest that goes on from a saved state. The
	// answer says that it was carried out, before anything else ran.
	Renew *Renew
}

// Renew is what a guest changes that goes on later than it stopped, or in another place,
// or in several.
type Renew struct {
	Fresh     Fresh
	Twin      bool    // Other machines go on from the same state: the boot id changes.
	Hostname  *string // Replaces the guest's.
	MachineID *string // Replaces /etc/machine-id: 32 hexadecimal digits.

	// Disconnect resets the commands' TCP connections to other hosts: the network does
	// not know them any more.
	Disconnect bool
}

func (r *Renew) fields() []field {
	return []field{
		required("fresh", object(&r.Fresh)),
		omitted("twin", truth(&r.Twin)),
		omitted("hostname", optionalText(&r.Hostname)),
		omitted("machine_id", optionalText(&r.MachineID)),
		omitted("disconnect", truth(&r.Disconnect)),
	}
}

// Type returns TypeWorkloadThaw.
func (*WorkloadThaw) Type() Type { return TypeWorkloadThaw }

func (m *WorkloadThaw) fields() []field {
	return []field{
		required("attempt_id", text(&m.AttemptID)),
		required("mode", oneOf(&m.Mode, ThawContinue, ThawRestore)),
		omitted("renew", optionalObject(&m.Renew)),
	}
}

// WorkloadFrozen says that all commands are stopped and all output has been sent.
type WorkloadFrozen struct {
	AttemptID            string
	GuestBulkBytesTarget uint64 // all bytes that the guest sends on the second port before the freeze; 0 without one
	InputCredit          TransportCounters
	ExternalMountsSynced bool
}

// Type returns TypeWorkloadFrozen.
func (*WorkloadFrozen) Type() Type { return TypeWorkloadFrozen }

func (m *WorkloadFrozen) fields() []field {
	return []field{
		required("attempt_id", text(&m.AttemptID)),
		required("guest_bulk_bytes_target", num(&m.GuestBulkBytesTarget)),
		required("input_credit", object(&m.InputCredit)),
		required("external_mounts_synced", truth(&m.ExternalMountsSynced)),
	}
}

// WorkloadThawed answers WorkloadThaw.
type WorkloadThawed struct {
	AttemptID string
	Renewed   bool // An extension of ours: WorkloadThaw.Renew was carried out.
}

// Type returns TypeWorkloadThawed.
func (*WorkloadThawed) Type() Type { return TypeWorkloadThawed }

func (m *WorkloadThawed) fields() []field {
	return []field{
		required("attempt_id", text(&m.AttemptID)),
		omitted("renewed", truth(&m.Renewed)),
	}
}

// WorkloadTransportCredit says how much the host may have sent in total.
type WorkloadTransportCredit struct {
	TransportCounters
}

// Type returns TypeWorkloadTransportCredit.
func (*WorkloadTransportCredit) Type() Type { return TypeWorkloadTransportCredit }

// RootDiskPrepare asks whether the root file system could grow to a size.
type RootDiskPrepare struct {
	SizeBytes uint64
}

// Type returns TypeRootDiskPrepare.
func (*RootDiskPrepare) Type() Type { return TypeRootDiskPrepare }

func (m *RootDiskPrepare) fields() []field {
	return []field{required("size_bytes", num(&m.SizeBytes))}
}

// RootDiskGrow makes the root file system grow to a size.
type RootDiskGrow struct {
	SizeBytes uint64
}

// Type returns TypeRootDiskGrow.
func (*RootDiskGrow) Type() Type { return TypeRootDiskGrow }

func (m *RootDiskGrow) fields() []field {
	return []field{required("size_bytes", num(&m.SizeBytes))}
}

// RootDiskState answers both.
type RootDiskState struct {
	FilesystemBytes, DeviceBytes uint64
}

// Type returns TypeRootDiskState.
func (*RootDiskState) Type() Type { return TypeRootDiskState }

func (m *RootDiskState) fields() []field {
	return []field{
		required("filesystem_bytes", num(&m.FilesystemBytes)),
		required("device_bytes", num(&m.DeviceBytes)),
	}
}
