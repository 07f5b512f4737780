// Package reference gets the published implementation that ours must work with:
// its agent, its kernel and its host program. Tests use it; nothing that ships
// imports it.
//
// [ExtractAgent] takes the agent out of the host program, where it lies as a
// whole ELF file among the program's data. [Fetch] gets a version from the
// package registry that npm is configured for.
package reference
