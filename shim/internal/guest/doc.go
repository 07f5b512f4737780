// Package guest is agentd-pod: it makes the containers of one pod in the pod's
// machine, by runc's library, and serves them to the shim.
//
// A [Server] owns the containers; each has an init process and the processes that
// were executed beside it. Every process has its pipes or terminal from its creation
// on, so what it writes waits there until the shim takes it: a stream that nobody
// reads stops its writer and nobody else.
//
// Locks: Server.mu guards the maps and is never held over a call of the library;
// process.mu guards one process's state.
package guest
