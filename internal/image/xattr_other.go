//go:build !linux

package image

// readXattrs returns none: attributes of other systems mean nothing to Linux.
func readXattrs(string) (map[string]string, error) { return nil, nil }

// deviceNumbers returns 0:0: device numbers of other systems mean nothing to Linux.
func deviceNumbers[N any](N) (major, minor uint32) { return 0, 0 }
