package wire

// field is one entry of a record.
type field struct{}
