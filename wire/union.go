package wire

// alternatives are the members of a tagged value, by their own names (TestAlternatives).
// They are not a map, which every start of the agent would have to build.
type alternatives[V any] []alternative[V]

type alternative[V any] struct {
	name string
	make func() V
}

// find returns the constructor of the member with a name, or nil.
func (a alternatives[V]) find(name string) func() V {
	for i := range a {
		if a[i].name == name {
			return a[i].make
		}
	}
	return nil
}

// external is a tagged value written as a map of one entry, {Name: content}.
type external[V comparable] struct {
	p *V
	*union[V]
}

// A union describes the members of a tagged value.
type union[V comparable] struct {
	always
	open     func(V) (string, value)
	all      alternatives[V]
	more     alternatives[V] // Those of extensions, which no generation has.
	nullable bool
}

func (x external[V]) encode(e *encoder) {
	var none V
	switch {
	case *x.p != none:
		name, content := x.open(*x.p)
		e.head(majorMap, 1)
		e.text(name)
		e.encodeField(name, content)
	case x.nullable:
		e.null()
	default:
		e.fail(errMissing)
	}
}

func (x external[V]) decode(d *decoder) {
	if x.nullable && d.takeNull() {
		return
	}
	in := d.enter(d.headOf(majorMap, errNotVariant))
	for d.more(&in) {
		if in.seen > 1 {
			d.fail(errNotVariant)
		}
		x.decodeOne(d)
	}
	if in.seen == 0 {
		d.fail(errNotVariant)
	}
}

func (x external[V]) decodeOne(d *decoder) {
	key := string(d.key())
	maker := x.all.find(key)
	if maker == nil {
		maker = x.more.find(key)
	}
	if maker == nil {
		d.fail(errUnknown)
		return
	}
	v := maker()
	name, content := x.open(v)
	content.decode(d)
	d.in(name)
	*x.p = v
}

// kinded is a tagged value written as one map whose entry "kind" names the member. The
// entry may be anywhere among the member's own fields.
type kinded[V comparable] struct {
	p    *V
	open func(V) (string, entries)
	all  alternatives[V]
}

func (k kinded[V]) absent() bool {
	var none V
	return *k.p == none
}

func (k kinded[V]) encode(e *encoder) {
	if k.absent() {
		e.fail(errMissing)
		return
	}
	name, content := k.open(*k.p)
	withKind(&name, content).encode(e)
}

// decode reads the map twice: first for its kind, then as that kind.
func (k kinded[V]) decode(d *decoder) {
	var kind string
	ahead := *d
	withKind(&kind, nil).decode(&ahead)
	maker := k.all.find(kind)
	if maker == nil {
		ahead.fail(inField("kind", errUnknown))
	}
	if ahead.err != nil {
		d.fail(ahead.err)
		return
	}
	v := maker()
	_, content := k.open(v)
	withKind(&kind, content).decode(d)
	*k.p = v
}

func withKind(kind *string, content entries) entries {
	return append(entries{required("kind", text(kind))}, content...)
}

// nullableKind is a kinded value that may be null or left out.
type nullableKind[V comparable] struct{ kinded[V] }

func (k nullableKind[V]) decode(d *decoder) {
	if !d.takeNull() {
		k.kinded.decode(d)
	}
}
