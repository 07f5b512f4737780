package machines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// wordBytes is the reserved room for the final state, whose error may hold a screen of
// the console and the commands that repeat the machine by hand.
const wordBytes = 32 << 10

// reserve allocates disk space for the life's final state by writing spaces, so that
// the state can be written even if the disk is full then.
func reserve(life *os.File) error {
	if _, err := life.WriteAt(bytes.Repeat([]byte(" "), wordBytes), 0); err != nil {
		return fmt.Errorf("room for the machine's state: %w", cause(err))
	}
	return nil
}

// writeLastWord writes the final state over the reserved bytes and takes no more space.
func writeLastWord(life *os.File, s State) error {
	b, err := json.Marshal(s)
	if err == nil && len(b) > wordBytes {
		const kept = 4 << 10 // It fits, because JSON takes at most six bytes for one.
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

// lastWord reads the final state from a life file, if there is one.
func lastWord(path string) (s State, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, false
	}
	return s, json.Unmarshal(b, &s) == nil
}

// conclude writes how the life ended to the state file or, if that fails, to the life
// file.
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
