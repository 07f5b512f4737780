// Package raw reads and writes messages of protobuf by their fields' numbers, where
// the generated package would link what a shim must not carry: those of containerd's
// Sandbox service and of Kubernetes' CRI come with gRPC, and so with HTTP, some 5 MiB
// in each shim.
package raw

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Message is the fields of one, by number. A field that is not there is nil or 0;
// one that is there twice, and is not repeated, has its last value, as protobuf has it.
type Message struct {
	bytes   map[protowire.Number][][]byte
	numbers map[protowire.Number]uint64
}

// Parse reads a message.
func Parse(b []byte) (Message, error) {
	m := Message{map[protowire.Number][][]byte{}, map[protowire.Number]uint64{}}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
		n = m.take(number, kind, b)
		if n < 0 {
			return m, fmt.Errorf("field %d: %w", number, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return m, nil
}

func (m Message) take(number protowire.Number, kind protowire.Type, b []byte) (n int) {
	switch kind { //nolint:exhaustive // Of the other kinds a message has none.
	case protowire.VarintType:
		m.numbers[number], n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		var v []byte
		v, n = protowire.ConsumeBytes(b)
		m.bytes[number] = append(m.bytes[number], v)
	default:
		n = protowire.ConsumeFieldValue(number, kind, b)
	}
	return n
}

// Has reports whether a field of bytes, a string or a message is there.
func (m Message) Has(number protowire.Number) bool { return len(m.bytes[number]) > 0 }

// Bytes is a field of bytes, or a message.
func (m Message) Bytes(number protowire.Number) []byte {
	all := m.bytes[number]
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// Text is a string.
func (m Message) Text(number protowire.Number) string { return string(m.Bytes(number)) }

// Texts are the strings of a repeated field.
func (m Message) Texts(number protowire.Number) (all []string) {
	for _, b := range m.bytes[number] {
		all = append(all, string(b))
	}
	return all
}

// Number is an integer of any size, not of the zigzag kinds.
func (m Message) Number(number protowire.Number) int64 { return int64(m.numbers[number]) }

// Message is a message within.
func (m Message) Message(number protowire.Number) (Message, error) {
	within, err := Parse(m.Bytes(number))
	if err != nil {
		return within, fmt.Errorf("field %d: %w", number, err)
	}
	return within, nil
}

// Map is a map of strings to strings: a repeated message of key 1 and value 2.
func (m Message) Map(number protowire.Number) (map[string]string, error) {
	all := map[string]string{}
	for _, b := range m.bytes[number] {
		entry, err := Parse(b)
		if err != nil {
			return nil, fmt.Errorf("field %d: %w", number, err)
		}
		all[entry.Text(1)] = entry.Text(2) //nolint:mnd // A map's value.
	}
	return all, nil
}

// AppendText adds a string, or bytes, unless it is empty.
func AppendText[T string | []byte](b []byte, number protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), []byte(v))
}

// AppendNumber adds an integer, unless it is 0.
func AppendNumber(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}
