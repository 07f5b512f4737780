package wire

import (
	"bytes"
	"math"
	"slices"
	"strings"
)

// value is one item of CBOR bound to the place in memory that holds it. The values that
// most messages have are one pointer, so that an interface holds them without an allocation.
type value interface {
	encode(e *encoder)
	decode(d *decoder)
	absent() bool // Whether there is nothing to write.
}

// always is part of a value that is never absent.
type always struct{}

func (always) absent() bool { return false }

// field is one entry of a record.
type field struct {
	name     string
	value    value
	required bool       // refuse the record when the field is missing
	omitted  bool       // leave the field out when its value is absent
	gen      Generation // first generation with the field; 0: as old as its message
}

// required describes a field that every sender writes.
func required(name string, v value) field {
	return field{name: name, value: v, required: true}
}

// defaulted describes a field that is always written but may be missing in what is
// read. A missing one keeps the value that the record was made with.
func defaulted(name string, v value) field {
	return field{name: name, value: v}
}

// omitted describes a field that is left out rather than written as null or empty.
func omitted(name string, v value) field {
	return field{name: name, value: v, omitted: true}
}

// since marks a field that is newer than its message.
func (f field) since(gen Generation) field {
	f.gen = gen
	return f
}

// record is a value that is written as a map with text keys.
type record interface {
	fields() []field
}

// entries is a record's map, in the order in which it is written.
type entries []field

// inner is a record as a value.
type inner struct{ record }

func object(r record) value { return inner{r} }

func (inner) absent() bool        { return false }
func (i inner) encode(e *encoder) { entries(i.fields()).encode(e) }
func (i inner) decode(d *decoder) { entries(i.fields()).decode(d) }

func (es entries) absent() bool { return false }

func (es entries) encode(e *encoder) {
	n := 0
	for i := range es {
		if es[i].present() {
			n++
		}
	}
	e.head(majorMap, uint64(n))
	for i := range es {
		if es[i].present() {
			es[i].encode(e)
		}
	}
}

// present reports whether the field is written.
func (f *field) present() bool { return !f.omitted || !f.value.absent() }

func (f *field) encode(e *encoder) {
	e.head(majorText, uint64(len(f.name))) // Ours, so it is valid.
	e.b = append(e.b, f.name...)
	e.encodeField(f.name, f.value)
}

func (es entries) decode(d *decoder) {
	var seen fieldSet
	for in := d.enter(d.headOf(majorMap, errNotMap)); d.more(&in); {
		seen = es.decodeOne(d, seen)
	}
	for i := range es {
		if es[i].required && !seen.has(i) {
			d.fail(inField(es[i].name, errMissing))
		}
	}
}

// decodeOne reads one key and its value. It skips unknown keys: later generations may
// add fields.
func (es entries) decodeOne(d *decoder, seen fieldSet) fieldSet {
	i := es.find(d.key())
	if i < 0 {
		d.skip()
		return seen
	}
	if seen.has(i) {
		d.fail(errDuplicate)
	}
	seen.add(i)
	es[i].value.decode(d)
	d.in(es[i].name)
	return seen
}

// find returns the index of the field with a name, -1 without one.
func (es entries) find(name []byte) int {
	for i := range es {
		if es[i].name == string(name) {
			return i
		}
	}
	return -1
}

// fieldSet has a bit for each field of a record that has been read. The longest record
// has 14.
type fieldSet uint32

func (s *fieldSet) add(i int)      { *s |= 1 << i }
func (s *fieldSet) has(i int) bool { return *s&(1<<i) != 0 }

// fieldError is an error in a field of a payload, whose path has dots.
type fieldError struct {
	path string
	err  error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// inField puts name before the path of err.
func inField(name string, err error) error {
	if inner, ok := err.(*fieldError); ok { //nolint:errorlint // only one that is not wrapped can be extended
		return &fieldError{path: name + "." + inner.path, err: inner.err}
	}
	return &fieldError{path: name, err: err}
}

// words is any text.
type words[T ~string] struct{ p *T }

func text[T ~string](p *T) value { return words[T]{p} }

func (w words[T]) absent() bool { return *w.p == "" }

func (w words[T]) encode(e *encoder) { e.text(string(*w.p)) }

func (w words[T]) decode(d *decoder) { *w.p = T(d.text(maxText)) }

// word is text of a closed set. Other text is refused.
type word[T ~string] struct {
	words[T]
	set []T
}

func oneOf[T ~string](p *T, set ...T) value { return word[T]{words[T]{p}, set} }

func (w word[T]) encode(e *encoder) {
	if !slices.Contains(w.set, *w.p) {
		e.fail(errUnknown)
	}
	w.words.encode(e)
}

func (w word[T]) decode(d *decoder) {
	w.words.decode(d)
	if !slices.Contains(w.set, *w.p) {
		d.fail(errUnknown)
	}
}

type boolean struct{ p *bool }

func truth(p *bool) value { return boolean{p} }

func (b boolean) absent() bool { return !*b.p }

func (b boolean) encode(e *encoder) {
	if *b.p {
		e.b = append(e.b, cborTrue)
	} else {
		e.b = append(e.b, cborFalse)
	}
}

func (b boolean) decode(d *decoder) {
	h := d.headOf(majorSimple, errNotBool)
	if h.arg != cborFalse&31 && h.arg != cborTrue&31 || h.info >= infoByte {
		d.fail(errNotBool)
	}
	*b.p = h.arg == cborTrue&31
}

type integer interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int32 | ~int64
}

// number is any integer of its type.
type number[T integer] struct{ p *T }

func num[T integer](p *T) value { return number[T]{p} }

func (n number[T]) absent() bool { return false }

func (n number[T]) encode(e *encoder) {
	if *n.p < 0 {
		e.head(majorNegative, uint64(-1-int64(*n.p)))
	} else {
		e.head(majorUnsigned, uint64(*n.p))
	}
}

func (n number[T]) decode(d *decoder) {
	v, fits := narrow[T](d.integer())
	if !fits {
		d.fail(errRange)
	}
	*n.p = v
}

// ranged is an integer of a range. Other integers are refused.
type ranged[T integer] struct {
	number[T]
	least, most T
}

func between[T integer](p *T, least, most T) value { return ranged[T]{number[T]{p}, least, most} }

func (n ranged[T]) encode(e *encoder) {
	if !n.allows(*n.p) {
		e.fail(errUnknown)
	}
	n.number.encode(e)
}

func (n ranged[T]) decode(d *decoder) {
	n.number.decode(d)
	if !n.allows(*n.p) {
		d.fail(errUnknown)
	}
}

func (n ranged[T]) allows(v T) bool { return n.least <= v && v <= n.most }

// narrow converts n, or -1-n if negative, to T. It reports whether T has that value.
func narrow[T integer](negative bool, n uint64) (v T, fits bool) {
	if !negative {
		v = T(n)
		return v, v >= 0 && uint64(v) == n
	}
	if n > math.MaxInt64 {
		return 0, false
	}
	v = T(-1 - int64(n))
	return v, v < 0 && int64(v) == -1-int64(n)
}

type octets struct{ p *[]byte }

func (octets) absent() bool { return false }

func data(p *[]byte) value { return octets{p} }

func (o octets) encode(e *encoder) { e.octets(*o.p) }

func (o octets) decode(d *decoder) {
	p, shared := d.octets()
	if shared {
		p = bytes.Clone(p)
	}
	*o.p = p
}

// fixed is a byte array of fixed size; it is written as an array of integers.
type fixed struct {
	always
	b []byte
}

func array(b []byte) value { return fixed{b: b} }

func (f fixed) encode(e *encoder) {
	e.head(majorArray, uint64(len(f.b)))
	for _, c := range f.b {
		e.head(majorUnsigned, uint64(c))
	}
}

func (f fixed) decode(d *decoder) {
	p, _ := d.octets()
	if len(p) != len(f.b) {
		d.fail(errLength)
	}
	copy(f.b, p)
}

// option is a value that may be null.
type option[T any] struct {
	p  **T
	of func(*T) value
}

func optional[T any](p **T, of func(*T) value) value { return option[T]{p, of} }

// maybeText is text that may be null.
type maybeText struct{ p **string }

func optionalText(p **string) value { return maybeText{p} }

func (o maybeText) absent() bool      { return *o.p == nil }
func (o maybeText) encode(e *encoder) { option[string]{o.p, stringValue}.encode(e) }
func (o maybeText) decode(d *decoder) { option[string]{o.p, stringValue}.decode(d) }

func stringValue(p *string) value { return text(p) }

// maybeNumber is an integer that may be null.
type maybeNumber[T integer] struct{ p **T }

func optionalNumber[T integer](p **T) value { return maybeNumber[T]{p} }

func (o maybeNumber[T]) absent() bool      { return *o.p == nil }
func (o maybeNumber[T]) encode(e *encoder) { option[T]{o.p, num[T]}.encode(e) }
func (o maybeNumber[T]) decode(d *decoder) { option[T]{o.p, num[T]}.decode(d) }

// optionalObject is a record that may be null.
func optionalObject[T any, P interface {
	*T
	record
}](p **T,
) value {
	return option[T]{p, func(t *T) value { return object(P(t)) }}
}

func (o option[T]) absent() bool { return *o.p == nil }

func (o option[T]) encode(e *encoder) {
	if *o.p == nil {
		e.null()
		return
	}
	o.of(*o.p).encode(e)
}

func (o option[T]) decode(d *decoder) {
	if d.takeNull() {
		*o.p = nil
		return
	}
	*o.p = new(T)
	o.of(*o.p).decode(d)
}

// list is an array of values; decoding makes an empty one nil.
type list[T any] struct {
	p  *[]T
	of func(*T) value
}

func texts(p *[]string) value { return list[string]{p, stringValue} }

// objects is an array of records.
func objects[T any, P interface {
	*T
	record
}](p *[]T,
) value {
	return list[T]{p, func(t *T) value { return entries(P(t).fields()) }} // Described once: see encode.
}

func (l list[T]) absent() bool { return len(*l.p) == 0 }

// encode copies each element into one variable, as decode does, so that an element's
// description is made only once.
func (l list[T]) encode(e *encoder) {
	e.head(majorArray, uint64(len(*l.p)))
	one := new(T)
	v := l.of(one)
	for _, *one = range *l.p {
		v.encode(e)
	}
}

func (l list[T]) decode(d *decoder) {
	var all []T
	one, zero := new(T), *new(T)
	v := l.of(one)
	for in := d.enter(d.headOf(majorArray, errNotList)); d.more(&in); {
		if d.elements++; d.elements > maxElements {
			d.fail(errElements)
		}
		*one = zero
		v.decode(d)
		all = append(all, *one)
	}
	*l.p = all
}

// ValidText returns s as text that can be sent: each byte that is not part of valid
// UTF-8 becomes U+FFFD. Encoding refuses such text, so a name that is not UTF-8 is
// never changed silently.
func ValidText(s string) string {
	return strings.Map(func(r rune) rune { return r }, s)
}
