package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"
)

// A frame has at most 4 MiB. These constants limit how much memory and stack 4 MiB can
// use when they are decoded.
const (
	// maxDepth bounds nested arrays and maps. The deepest message, core.bootstrap,
	// uses 4. The rest is for fields that later generations may add and that the
	// decoder skips.
	maxDepth = 32

	// maxElements bounds the elements of all lists of one payload together.
	// An empty text takes 1 byte in a frame and 16 in a []string, so without this
	// bound 4 MiB would become 64 MiB. Real messages have fewer: execve with the
	// default stack of 8 MiB takes 2 MiB of arguments and variables, of 9 bytes or
	// more each, so at most 233,016. A directory entry takes at least 39 bytes, so a
	// frame has at most 107,546.
	maxElements = 1 << 18

	// maxText bounds one text. It is more than the 2 MiB of all strings of an execve with
	// the default stack, so an argument that the kernel refuses still decodes, and the
	// caller gets the kernel's own error. Reference hosts put at most so much into a frame.
	maxText = 3 << 20
)

// The faults of a CBOR item.
var (
	errTruncated  = errors.New("unexpected end of input")
	errReserved   = errors.New("reserved encoding")
	errBreak      = errors.New("break outside an indefinite item")
	errChunk      = errors.New("bad piece of an indefinite string")
	errDepth      = errors.New("nested too deep")
	errElements   = errors.New("too many list elements")
	errTextLength = errors.New("text too long")
	errUTF8       = errors.New("text is not UTF-8")
	errRange      = errors.New("number out of range")
	errLength     = errors.New("wrong number of bytes")
	errDuplicate  = errors.New("duplicate key")
	errMissing    = errors.New("missing")
	errUnknown    = errors.New("unknown value")
	errNotMap     = errors.New("not a map")
	errNotList    = errors.New("not a list")
	errNotText    = errors.New("not text")
	errNotBytes   = errors.New("not bytes")
	errNotInteger = errors.New("not an integer")
	errNotBool    = errors.New("not a boolean")
	errNotVariant = errors.New("not a map of one entry")
)

// major is the type of a CBOR item (RFC 8949 section 3.1).
type major uint8

const (
	majorUnsigned major = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple // also floats and break
)

// Values of the low five bits of an initial byte. Smaller values are the argument
// itself.
const (
	infoByte       = 24 // 1 byte follows; 25, 26 and 27: 2, 4 and 8 bytes
	infoFloat16    = 25
	infoFloat32    = 26
	infoFloat64    = 27
	infoReserved   = 28
	infoIndefinite = 31
)

// Initial bytes of the simple values.
const (
	cborFalse     = 0xf4
	cborTrue      = 0xf5
	cborNull      = 0xf6
	cborUndefined = 0xf7 // JavaScript clients write it for null
	cborBreak     = 0xff
)

// head is the initial byte of an item and its argument.
type head struct {
	major major
	info  byte
	arg   uint64
}

func (h head) indefinite() bool { return h.info == infoIndefinite }

// decoder reads one item after the other from b, which it never writes to. After a fault
// its methods return nothing of value, and loops over its input end; so only whoever uses
// a result at once must look at err.
type decoder struct {
	b        []byte
	depth    int
	elements int
	err      error // the first fault
}

// fail records a fault. There is no more input after the first.
func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

// in puts the name of a field before the path of a fault in its value.
func (d *decoder) in(name string) {
	if d.err != nil {
		d.err = inField(name, d.err)
	}
}

// take returns the next n bytes of the input without a copy.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail(errTruncated)
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

// rawHead reads the next head, which may be a tag or a break.
func (d *decoder) rawHead() head {
	if len(d.b) == 0 {
		d.fail(errTruncated)
		return head{}
	}
	h := head{major: major(d.b[0] >> 5), info: d.b[0] & 31}
	d.b = d.b[1:]
	switch {
	case h.info < infoByte:
		h.arg = uint64(h.info)
	case h.info < infoReserved:
		h.arg = d.argument(h)
	case h.info < infoIndefinite, h.major < majorBytes, h.major == majorTag:
		d.fail(errReserved)
	}
	return h
}

// argument reads the 1, 2, 4 or 8 bytes that follow an initial byte. Longer forms than
// necessary are accepted, except for simple values.
func (d *decoder) argument(h head) uint64 {
	switch p := d.take(1 << (h.info - infoByte)); len(p) {
	case 1:
		if h.major == majorSimple && p[0] < 32 {
			d.fail(errReserved)
		}
		return uint64(p[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(p))
	case 4:
		return uint64(binary.BigEndian.Uint32(p))
	case 8:
		return binary.BigEndian.Uint64(p)
	default:
		return 0 // take has failed.
	}
}

// head reads the head of the next item. It ignores the tags before the item: JavaScript
// encoders put them before bytes, and no field's meaning depends on one.
func (d *decoder) head() head {
	for {
		h := d.rawHead()
		if h.major == majorSimple && h.indefinite() {
			d.fail(errBreak)
		}
		if h.major != majorTag || d.err != nil {
			return h
		}
	}
}

// headOf reads the head of an item of one type. For any other it fails with the error.
func (d *decoder) headOf(m major, otherwise error) head {
	h := d.head()
	if h.major != m {
		d.fail(otherwise)
		return head{}
	}
	return h
}

// takeBreak consumes a break if it is next.
func (d *decoder) takeBreak() bool {
	if len(d.b) == 0 || d.b[0] != cborBreak {
		return false
	}
	d.b = d.b[1:]
	return true
}

// takeNull consumes a null or undefined if it is next.
func (d *decoder) takeNull() bool {
	if len(d.b) == 0 || d.b[0] != cborNull && d.b[0] != cborUndefined {
		return false
	}
	d.b = d.b[1:]
	return true
}

// items walks over the entries of an array or map. The count is not checked against the
// input, because what reads an entry fails at the end of the input.
type items struct {
	head head
	seen uint64
}

// enter begins the array or map with head h.
func (d *decoder) enter(h head) items {
	if d.depth++; d.depth > maxDepth {
		d.fail(errDepth)
	}
	return items{head: h}
}

// more reports whether there is one more entry, and leaves the array or map if not.
func (d *decoder) more(in *items) bool {
	end := in.head.indefinite() && d.takeBreak() || !in.head.indefinite() && in.seen == in.head.arg
	if end || d.err != nil {
		d.depth--
		return false
	}
	in.seen++
	return true
}

// each calls f for every entry of the array or map with head h.
func (d *decoder) each(h head, f func()) {
	for in := d.enter(h); d.more(&in); {
		f()
	}
}

// skip skips one whole item. It checks the structure and allocates nothing.
func (d *decoder) skip() { d.skipRest(d.head()) }

// skipRest skips the content of the item with head h.
func (d *decoder) skipRest(h head) {
	switch h.major {
	case majorBytes, majorText:
		d.skipString(h)
	case majorArray:
		d.each(h, d.skip)
	case majorMap:
		d.each(h, d.skipPair)
	case majorUnsigned, majorNegative, majorSimple, majorTag:
	}
}

func (d *decoder) skipPair() {
	d.skip()
	d.skip()
}

func (d *decoder) skipString(h head) {
	if h.indefinite() {
		d.pieces(h, func([]byte) {})
	} else {
		d.take(h.arg)
	}
}

// pieces calls f for each piece of the indefinite string with head h.
func (d *decoder) pieces(h head, f func([]byte)) {
	for d.err == nil && !d.takeBreak() {
		piece := d.rawHead()
		if piece.major != h.major || piece.indefinite() {
			d.fail(errChunk)
		}
		f(d.take(piece.arg))
	}
}

// str reads the content of the string with head h; it returns nil if it fails. The
// result shares the input's memory, unless the string came in pieces.
func (d *decoder) str(h head) []byte {
	if !h.indefinite() {
		return d.take(h.arg)
	}
	joined := []byte{}
	d.pieces(h, func(p []byte) { joined = append(joined, p...) })
	if d.err != nil {
		return nil
	}
	return joined
}

// key reads the key of a map entry: text or a byte string. For any other kind of key,
// which no message has, it returns nil.
func (d *decoder) key() []byte {
	h := d.head()
	if h.major != majorText && h.major != majorBytes {
		d.skipRest(h)
		return nil
	}
	return d.str(h)
}

// text reads text of at most limit bytes; it returns nil if it fails. The result shares
// the input's memory if it can.
func (d *decoder) text(limit int) []byte {
	p := d.str(d.headOf(majorText, errNotText))
	switch {
	case len(p) > limit:
		d.fail(errTextLength)
	case !utf8.Valid(p):
		d.fail(errUTF8)
	default:
		return p
	}
	return nil
}

// octets reads bytes in any of their forms: a byte string, whole or in pieces, or an
// array of integers. If shared is true, the result may share the input's memory.
func (d *decoder) octets() (p []byte, shared bool) {
	h := d.head()
	if h.major == majorArray {
		return d.octetArray(h), false
	}
	if h.major != majorBytes {
		d.fail(errNotBytes)
		return nil, false
	}
	return d.str(h), !h.indefinite()
}

// octetArray reads an array of integers as bytes. An element takes at least a
// byte of input, so the result is never longer than that.
func (d *decoder) octetArray(h head) []byte {
	out := make([]byte, 0, min(h.arg, uint64(len(d.b))))
	d.each(h, func() {
		negative, n := d.integer()
		if negative || n > math.MaxUint8 {
			d.fail(errRange)
		}
		out = append(out, byte(n))
	})
	return out
}

// integer reads n, or -1-n if negative. It accepts a float with an integral value,
// because JavaScript clients send offsets of 1<<32 and more in this way.
func (d *decoder) integer() (negative bool, n uint64) {
	h := d.head()
	switch {
	case h.major == majorUnsigned:
		return false, h.arg
	case h.major == majorNegative:
		return true, h.arg
	case h.major == majorSimple && h.info >= infoFloat16:
		return d.integral(h.float())
	default:
		d.fail(errNotInteger)
		return false, 0
	}
}

// float returns the value of a floating-point head.
func (h head) float() float64 {
	switch h.info {
	case infoFloat16:
		return halfFloat(uint16(h.arg))
	case infoFloat32:
		return float64(math.Float32frombits(uint32(h.arg)))
	default:
		return math.Float64frombits(h.arg)
	}
}

// halfFloat widens a 16-bit float: 1 bit sign, 5 exponent, 10 fraction.
func halfFloat(bits uint16) float64 {
	exponent, fraction := int(bits>>10&31), float64(bits&0x3ff)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(fraction, -24)
	case 31:
		return math.NaN() // infinite or not a number: no integer either way
	default:
		f = math.Ldexp(fraction+1024, exponent-25)
	}
	if bits>>15 != 0 {
		f = -f
	}
	return f
}

// integral splits a float with an integral value as integer does.
func (d *decoder) integral(f float64) (negative bool, n uint64) {
	switch {
	case f != math.Trunc(f) || math.IsInf(f, 0): // also not a number
		d.fail(errNotInteger)
	case f <= -0x1p64 || f >= 0x1p64:
		d.fail(errRange)
	case f < 0:
		return true, uint64(-f) - 1
	default:
		return false, uint64(f)
	}
	return false, 0
}
