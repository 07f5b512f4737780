package sys

import "os"

// File is the file in which a Write waits.
func (i *Input) File() (*os.File, error) { return i.open() }
