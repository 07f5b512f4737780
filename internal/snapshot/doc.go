// Package snapshot keeps states of machines on disk: what a machine's memory and
// devices are at one moment, for other machines to start from.
//
// A state is a directory. It is made under another name (NAME.tmp), brought to the
// disk, and renamed: what has its name is whole. It is never written to again, because
// the machines that start from it have its memory mapped.
//
//	manifest.json  a [Manifest]: what the state is of, and what the files must be
//	mem            the guest's memory, as large as that; pages of zeros are holes
//	state          what the monitor says of the devices
//
// [Create] makes one and [Open] checks one. The monitor checks neither the processor,
// nor the memory file, nor the arguments: what must be equal is the caller's to put
// into the key.
//
// [Templates] are states of machines that wait for their configuration. They are this
// program's own and may go away at any time; [Templates.Make] has one maker at a time.
package snapshot
