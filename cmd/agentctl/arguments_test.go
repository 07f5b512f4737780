package main

import (
	"strings"
	"testing"
)

func TestArgumentsOf(t *testing.T) {
	const none = 9 // More than any of these takes.
	for use, bounds := range map[string][2]int{
		"df":                                          {0, 0},
		"boot-times [flags]":                          {0, 0},
		"prune [-f] [--names]":                        {0, 0},
		"prune -a":                                    {0, 0},
		"rename NAME NEW-NAME":                        {2, 2},
		"ls [flags] [REPOSITORY[:TAG]]":               {0, 1},
		"port NAME [PORT[/tcp]]":                      {1, 2},
		"kill [-s SIGNAL] NAME...":                    {1, none},
		"stats [flags] [NAME...]":                     {0, none},
		"cp [-r] SOURCE... TARGET":                    {2, none},
		"forward NAME [[ADDRESS:]PORT:]PORT...":       {2, none},
		"run [flags] [IMAGE] [--] [COMMAND [ARG...]]": {0, none},
		"testexec [flags] TEST-BINARY [ARG...]":       {1, none},
	} {
		check := argumentsOf(use)
		for n := range none + 1 {
			err := check(newRoot(), strings.Split(strings.Repeat("x", n), "")[:n])
			if (err == nil) != (n >= bounds[0] && n <= bounds[1]) {
				t.Errorf("%s with %d arguments: %v", use, n, err)
			}
		}
	}
}
