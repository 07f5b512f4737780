// Package bootenv is the contract of the boot, as package wire is that of the protocol.
// It has the variables with which a host configures a machine on its kernel's command
// line, their separators and forms, and the words with which the agent names the phase
// in which a boot failed. docs/BOOT.md describes all of them.
//
// [Encode] writes a configuration as variables. Package internal/guest/plan reads and
// checks them; a test there proves that it reads everything that Encode writes.
package bootenv
