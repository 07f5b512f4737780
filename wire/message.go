package wire

// variant is one alternative of a tagged union: a named set of fields.
type variant interface {
	record
	tag() string
}

// record is a map with text keys: a payload, or a map inside one.
type record interface {
	fields() []field
}
