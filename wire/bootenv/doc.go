// Package bootenv is the boot's contract in code, as package wire is the protocol's:
// the variables by which a host configures a machine on its kernel's command line,
// their separators and forms, and the words by which the agent says in which phase a
// boot failed. docs/BOOT.md describes all of them.
//
// [Encode] writes a configuration as variables. Package internal/guest/plan reads them,
// because reading is checking: a test there holds that it reads what Encode writes.
package bootenv
