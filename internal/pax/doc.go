// Package pax writes and reads the archives that move trees between hosts and guests. They
// are ordinary tar archives in the PAX form (pax(1) of POSIX), so that every tar program reads
// them. Package archive/tar of the standard library is not used in the guest: it links os/user,
// and it cannot write holes.
//
// A [Writer] writes what ustar cannot say as PAX records: names of more than 100 bytes, times
// with nanoseconds, large numbers, extended attributes (SCHILY.xattr, as GNU tar and libarchive
// have them) and holes (GNU.sparse, form 1.0 of GNU tar). A [Reader] reads these forms and no
// others: no headers of GNU tar or of Solaris. A program that gets archives of strangers first
// reads them with a tolerant reader and writes them again.
//
// Archives are streams: neither end holds more than one header. The bounds of a header are
// [MaxName], [MaxRecords] and [MaxExtents]; a reader checks them before it allocates.
package pax
