package suite

import (
	"github.com/agentd-go/agentd/client"
)

// terminals are commands with one (protocol sections 8.4 to 8.7).
func terminals() []behaviour {
	sized := func(g *guest) *client.Cmd {
		c := terminal("stty size; tty")(g)
		c.Rows, c.Cols = 40, 100
		return c
	}
	const waits = "trap 'stty size' WINCH; echo ready; while :; do read -t 1 x; done"
	const ctrlC, ctrlD = "\x03", "\x04"
	return []behaviour{
		converse("terminal size", sized, hear("40 100\r\n/dev/pts/"), exits(0)),
		converse("terminal default size", terminal("stty size"), hear("24 80\r\n"), exits(0)),
		converse("terminal resize", terminal(waits),
			hear("ready\r\n"), resize(10, 20), hear("10 20\r\n"), resize(50, 200), hear("50 200\r\n"), signal(9), exits(-1)),
		converse("terminal echo and end", terminal("cat; echo over"),
			tell("hi\n"), hear("hi\r\n"), hear("hi\r\n"), tell(ctrlD), hear("over\r\n"), exits(0)),
		converse("terminal without echo", terminal("stty -echo; echo ready; read x; echo got $x"),
			hear("ready\r\n"), tell("secret\n"), hear("got secret\r\n"), exits(0)),
		converse("terminal interrupt", terminal("echo ready; exec cat"), hear("ready\r\n"), tell(ctrlC), exits(-1)),
		converse("terminal interrupt of the foreground", terminal(
			// A shell ends with a child that an interrupt has ended: this one exits.
			"set -m; sh -c 'trap \"exit 3\" INT; echo deep; while :; do sleep 0.1; done'; echo alive"),
			hear("deep\r\n"), tell(ctrlC), hear("alive\r\n"), exits(0)),
		converse("terminal hangs up", terminal("sleep 1000 & echo done"), hear("done\r\n"), exits(0)),
		converse("terminal takes both outputs", terminal("echo err >&2"), hear("err\r\n"), exits(0)),
		converse("terminal opens by its name", func(g *guest) *client.Cmd {
			c := terminal("echo named >$(tty)")(g)
			c.User = "alice"
			return c
		}, hear("named\r\n"), exits(0)),
	}
}
