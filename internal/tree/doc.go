// Package tree packs directories into archives and unpacks them again (package pax). Both
// ends of a link use it: the agent in its machine, and agentctl on the host, where the archive
// may come from a hostile machine.
//
// # Beneath the directory
//
// Everything is reached by descriptors. A name of an archive is split at its slashes; each
// directory is opened in the one before it, and no link is followed (O_NOFOLLOW). Names with
// ".." or an empty part are refused. So nothing is written outside of the directory, even if
// another program changes it meanwhile. The last name is never followed either: a file is
// written under a temporary name in its directory and then renamed.
//
// # Bounds
//
// An [Unpacker] holds the directories on the way to the current member ([MaxDepth]) and those
// of the current batch. A [Packer] holds the names of these directories (maxNames bytes).
// Neither grows with the number of files, but for hard links: a Packer remembers maxLinks
// files with several names, and packs what exceeds them as files of their own.
package tree
