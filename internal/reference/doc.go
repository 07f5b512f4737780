// Package reference fetches the published implementation that ours must work with: its
// agent, its kernel and its host program. Only tests and benchmarks use it.
//
// [ExtractAgent] extracts the agent, a complete ELF file in the host program's data.
// [Fetch] downloads a version from the package registry that npm is configured for.
package reference
