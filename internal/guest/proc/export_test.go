package proc

// Known is how many children the table has an entry for.
func (t *Table) Known() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.children)
}
