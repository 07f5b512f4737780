// Package machines keeps machines that outlive the program that made them. A machine is
// a directory, and its supervisor is a background process.
//
//	STATE/machines/NAME/
//	  record.json   the machine's configuration; written once, by Create
//	  state.json    the phase that its last life reached; its supervisor replaces the file as a whole
//	  life          the lock that its supervisor holds from first to last, and room on
//	                the disk for its last word: the state at its end, where the machine is
//	                removed then, or where state.json cannot be written
//	  socket        where clients find the agent (internal/relay)
//	  ctl           where its supervisor takes requests: to stop, to signal its command
//	  console.log   the console of its last life
//	  output.log    the output of its command, if it has one; output.log.1 is the
//	                file before it; see Entry
//	  health.json   the results of its health checks in its last life, if it has any
//	  agentctl.log  the messages of its supervisor
//	  repeat.sh     the commands that repeat its last life by hand
//	  paused/       the memory of a paused machine (sandbox.Machine.Pause)
//	  files/        the machine's own files: its root, its disks
//
// and, while a machine with [Record.Survive] runs, QEMU's sockets port, qmp and tty, the
// FIFOs out.N of what it and virtiofsd print, and vm.json and guest.json for the next
// supervisor (sandbox.Config.Survive).
//
// Beside them are volumes and snapshots, which outlive machines: see [Volume] and
// [Snapshot].
//
// # What is true
//
// A process can be killed at any time, so no file can say that a machine runs. The lock
// says it, because the lock ends with its holder. The state says which phase that life
// has reached. Both together give the [Status]: if the state is in the middle of a life
// and nobody holds the lock, the supervisor was killed and the machine is [Dead], or
// [Paused] if its memory is on the disk and fits its disks.
//
//	created ─▶ starting ─▶ running ─▶ stopping ─▶ stopped        a holder: the state
//	            ▲  └──────────┴───────────┴─────▶ failed         none: the state, or dead
//	            └─ restarting ◀───────────┘
//
// Directories appear and disappear by a rename: a machine is made and removed under a
// name that begins with a dot, and locked while they are filled from a snapshot. If a program is interrupted and leaves such a directory,
// the next program that lists machines removes it.
//
// # Processes
//
// The kernel kills QEMU and virtiofsd when their supervisor dies, except with
// [Record.Survive]: then they go on, and [Machine.Adopt] starts another supervisor. A process that is
// left has the machine's directory in its environment ([Variable]); Remove and Up end
// it first.
//
// # Locks
//
// STATE/lock is held while names appear or vanish. The supervisor locks bytes 0 and 1
// of life. A program that waits for the machine's end waits for byte 1, so that it
// never keeps the next supervisor from byte 0. All are locks of open file descriptions
// (fcntl(2)): a program can test them without taking them, and a child does not hold
// them unless it inherits the descriptor.
package machines
