// Package oci reads the configuration of a container image and lists its layers. The
// image is in an archive of docker save, an OCI archive or layout directory, or a
// registry. The package unpacks nothing.
//
// All four consist of documents that name others by digest. The package checks the size
// of each document before it reads it, and then its digest. The caller must check the
// layers: a [Layer] has the digests of its stored form and of the archive inside.
package oci
