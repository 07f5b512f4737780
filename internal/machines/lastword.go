package machines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// wordBytes is the room for a last word: a state with an error of a screen of console
// and the commands that repeat the machine by hand.
const wordBytes = 32 << 10

// reserve makes room on the disk for the life's last word, so that there is some when
// the disk is full at its end. Spaces are no word.
func reserve(life *os.File) error {
	if _, err := life.WriteAt(bytes.Repeat([]byte(" "), wordBytes), 0); err != nil {
		return fmt.Errorf("room for the machine's state: %w", cause(err))
	}
	return nil
}

// writeLastWord writes the state over the room, without taking more.
func writeLastWord(life *os.File, s State) error {
	b, err := json.Marshal(s)
	if err == nil && len(b) > wordBytes {
		const kept = 4 << 10 // As JSON takes six bytes for one at most, it fits.
		s.Error = s.Error[:min(len(s.Error), kept)]
		b, err = json.Marshal(s)
	}
	if err != nil {
		return err
	}
	room := bytes.Repeat([]byte(" "), wordBytes)
	copy(room, b)
	_, err = life.WriteAt(room, 0)
	return err
}

// lastWord reads the last word of a life, if there is one.
func lastWord(path string) (s State, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, false
	}
	return s, json.Unmarshal(b, &s) == nil
}

// conclude writes down how the life ended: in the state, or in the life's own file
// where that cannot be written.
func (l *Live) conclude() error {
	err := l.say()
	if err == nil {
		return nil
	}
	if failed := writeLastWord(l.life, l.state); failed != nil {
		return errors.Join(err, failed)
	}
	l.log("the state is in the file 'life': " + err.Error())
	return nil
}
