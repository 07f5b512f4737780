package machines

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// mebibyte is the unit of a machine's sizes.
const mebibyte = 1 << 20

// ParseSize reads a size as container tools do: 512m, 2g, 1.5GB or 1GiB, in powers of
// 1,024; case does not matter. A number without a unit is in bytes. The result is in
// whole MiB, rounded down, and at least 1.
func ParseSize(s string) (mib int, err error) {
	bytes, err := parseBytes(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q: want a size such as 512m or 2g", s)
	case bytes < mebibyte:
		return 0, fmt.Errorf("%q is %d bytes, and the least is 1m: a number without a unit is bytes; want a size such as 512m or 2g", s, bytes)
	}
	return int(bytes / mebibyte), nil
}

// parseBytes reads NUMBER[ ][UNIT][i][b], in bytes.
func parseBytes(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(s), " bi")
	shift := 0
	if n := strings.IndexByte("kmgtp", lastByte(digits)); n >= 0 {
		const step = 10 // Each unit is 1<<10 times the previous one.
		shift, digits = step*(n+1), digits[:len(digits)-1]
	} else if strings.ContainsRune(strings.ToLower(s), 'i') {
		return 0, errors.New("a unit without its letter")
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(digits, " "), 64)
	if err != nil || strings.Trim(digits, "0123456789. ") != "" {
		return 0, errors.New("no number")
	}
	if n = math.Ldexp(n, shift); n >= math.MaxInt64 {
		return 0, strconv.ErrRange
	}
	return int64(n), nil
}

// lastByte returns the last byte of s, or 0 if s is empty.
func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}
