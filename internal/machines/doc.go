// Package machines keeps machines that outlive the program that made them: each
// is a directory, and its supervisor a process in the background.
//
//	STATE/machines/NAME/
//	  record.json   what was asked for; written once, by Create
//	  state.json    how far its last life came; written whole, by its supervisor
//	  life          the lock that its supervisor holds from first to last, and room on
//	                the disk for its last word: the state at its end, where the machine is
//	                removed then, or where state.json cannot be written
//	  socket        where clients find the agent (internal/relay)
//	  ctl           where its supervisor takes requests: to stop, to signal its command
//	  console.log   what the guest has printed in its last life
//	  output.log    what its command has printed, if it has one; output.log.1 is the
//	                file before it; see Entry
//	  health.json   what its health checks have said in its last life, if it has any
//	  agentctl.log  what its supervisor has said
//	  repeat.sh     the commands that repeat its last life by hand
//	  files/        the machine's own files: its root, its disks
//
// Beside them are volumes, which outlive machines: see [Volume].
//
// # What is true
//
// A process can be killed at any time, so no file says that a machine runs: the
// lock does, which ends with its holder. The state says how far that life came.
// Both together are the [Status]: a state in the middle of a life without a
// holder is a machine whose supervisor was killed, and so is [Dead].
//
//	created ─▶ starting ─▶ running ─▶ stopping ─▶ stopped        a holder: the state
//	            ▲  └──────────┴───────────┴─────▶ failed         none: the state, or dead
//	            └─ restarting ◀───────────┘
//
// Directories appear and disappear by a rename: a machine is made under a name
// that begins with a dot, and is removed under one. What an interrupted program
// leaves under such a name, the next one to list machines sweeps away.
//
// # Processes
//
// QEMU and virtiofsd die with their supervisor, by the kernel's hand. What might
// be left of them carries the machine's directory in its environment
// ([Variable]), and Remove and Hold end it first.
//
// # Locks
//
// STATE/lock is held while names appear or vanish. Byte 0 of life belongs to the
// supervisor; byte 1 too, and who waits for its end waits for that byte, so that
// waiting never keeps the next supervisor from byte 0. All are locks of open file
// descriptions (fcntl(2)): they can be looked at without being taken, and a child
// that is not given the descriptor does not hold them.
package machines
