// Package life runs agentd from its start to its end: it boots the machine, serves the
// host and takes the machine down. Each part has a package of its own. This package has
// their order and handles their failures.
//
//	state        next                    if it fails
//	enter root   configure               no port yet: a line on the console
//	configure    bring up                the host is told, if the port is open
//	bring up     hand over, or bind      the host is told; what was mounted is taken down
//	hand over    becomes the init        as for bring up, after every process is killed
//	bind         serve                   as for bring up
//	serve        take down               take down
//	take down    End                     each part has its own deadline
//
// After a hand over a second agent goes on from serve ([Life.Continue]). It ends when
// the host asks for the end or the init says SIGTERM.
//
// Only [End] ends the machine, and only PID 1 or the second agent calls it.
package life
