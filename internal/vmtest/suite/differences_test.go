package suite

import "maps"

// differences lists the behaviours in which our agent differs from a published one, by
// version and name, with the reason.
var differences = map[string]map[string]string{
	"0.5.5": with(common, oldest),
	"0.6.8": without(with(with(common, oldest), arm),
		"core: wrong flags", "departure: nothing is said any more", "session of its own",
		"signal reaches the group", "signal leaves none of the group"),
	"0.6.14": common,
}

// common are the differences from both.
var common = map[string]string{
	"signals on a terminal":                     "commands there inherit an ignored SIGPIPE, so that pipelines do not end",
	"descriptors beside a terminal":             "a terminal's descriptors leak into other commands and keep it open",
	"no start: missing directory":               "a missing directory is reported as a missing program",
	"no start: file as directory":               "the message does not say that it is about the directory",
	"no start: missing directory on a terminal": "the command runs in another directory than it was told to",
	"terminal opens by its name":                "the terminal belongs to root, whoever the command runs as",
	"pipes open by their names":                 "the pipes do too",
	"no start: below a file":                    "a path below a file is reported as a bad directory",
	"no start: below a file on a terminal":      "the same",
	"no start: soft above hard":                 "limits that cannot be set have no kind of their own",
	"no start: soft above hard on a terminal":   "the command is started, and ends with 1",
	"no start: impossible user":                 "users that cannot be had have no kind of their own",
	"no start: impossible group":                "the same",
	"no start: unknown user":                    "the same",
	"no start: unknown user on a terminal":      "the same",
	"no start: unknown group":                   "the same",
	"no start: no user":                         "the same",
	"no start: no group":                        "the same",
	"service with the output does not delay":    "the end of a command waits for whoever holds its output",
	"silent reader delays nobody":               "the agent's only loop waits for a command to take its input",

	"empty PATH": "an empty component of it is the working directory",

	"core: duplicate id":                                         "the second request starts a second command, and both speak on the id",
	"file: RealPath Path:new":                                    "a relative name without a directory has no parent there",
	`file: RealPath Path:/c\u0000`:                               "a name with a NUL in it comes back as the real path",
	"file: Stat Path:/c/f,FollowSymlink:false,Exact:false again": "a copy of a file onto itself has emptied it",
	"file: Stat Path:/c/hard,FollowSymlink:false,Exact:false":    "the same, onto a hard link",
	"files after the questions":                                  "the same",
	"bound: 1024 handles and a command":                          "its own limit of descriptors comes first, and then no command starts either",
	"bound: a listing of 44,000":                                 "what does not fit a frame is not answered at all",
	"beside: the removal of a large tree":                        "the agent's only loop removes it and answers nobody meanwhile",
	"tcp: an address that is none":                               "it asks the name server, which here is none, for what no name can be",
	"tcp: closed after both ends":                                "the end of both halves is not told before generation 8",
	"tcp: their end first":                                       "the same",
	"tcp: 4 MiB to a peer that writes first":                     "one task moves both directions, and each side waits for the other",
	"departure: nothing is said any more":                        "commands go on speaking on the ids of the client that has gone",
}

// oldest are the further ones from 0.5.5.
var oldest = map[string]string{
	"core: wrong flags":               "flags are not looked at, the message is acted on",
	"environment":                     "the configuration of the machine is visible to every command",
	"its PATH and HOME":               "the same",
	"session of its own":              "commands share the agent's session, and with it a terminal's signals",
	"signal reaches the group":        "a signal reaches one process and leaves its children",
	"signal leaves none of the group": "the same",
	"signal after the leader's end":   "the same",
	"no zombie":                       "processes that lose their parent are never reaped",
}

// arm are the further ones from 0.6.8, which is published for arm64 too.
var arm = map[string]string{
	"scripts in PATH already":                 "their directory is put in front once more",
	"departure: commands go on":               "commands of a client that has gone are killed",
	"departure: handles and streams are gone": "the same",
}

func without(a map[string]string, names ...string) map[string]string {
	for _, name := range names {
		delete(a, name)
	}
	return a
}

func with(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
