// Package oci finds out what a container image consists of: its configuration
// and its layers, in an archive of docker save, an OCI archive or layout
// directory, or a registry. It unpacks nothing.
//
// All four are the same underneath: documents that name others by digest. Each
// document is checked against the digest that named it, and against a bound on
// its size before it is read. Layers are left to the reader, who has to check
// them: a [Layer] has both digests, of what is stored and of the archive inside.
package oci
