// Counts the words of a text: standard input to standard output, as JSON. It must never print
// anything else than examples/wordcount does for the same bytes.
//
// A word is a run of ASCII letters and digits, in lower case.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// The number of the most frequent words in the result.
const top = 10

// A word and how often it occurs: ["two",2].
type entry struct {
	word  string
	times uint64
}

func (e entry) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{e.word, e.times})
}

type count struct {
	Lines uint64  `json:"lines"`
	Words uint64  `json:"words"`
	Bytes uint64  `json:"bytes"`
	Top   []entry `json:"top"`
}

func wordcount(text []byte) count {
	found := count{Bytes: uint64(len(text)), Top: []entry{}}
	seen := map[string]uint64{}
	var word []byte
	end := func() {
		if len(word) > 0 {
			seen[string(word)]++
			found.Words++
			word = word[:0]
		}
	}
	for _, b := range text {
		switch {
		case 'A' <= b && b <= 'Z':
			word = append(word, b+'a'-'A')
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9':
			word = append(word, b)
		default:
			end()
		}
		if b == '\n' {
			found.Lines++
		}
	}
	end()
	// The last line counts even without a newline at its end.
	if len(text) > 0 && text[len(text)-1] != '\n' {
		found.Lines++
	}

	for word, times := range seen {
		found.Top = append(found.Top, entry{word, times})
	}
	// The most frequent first; words that are equally frequent in alphabetical order.
	slices.SortFunc(found.Top, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.times, a.times), cmp.Compare(a.word, b.word))
	})
	found.Top = found.Top[:min(top, len(found.Top))]
	return found
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
	output, err := json.Marshal(wordcount(text))
	if err == nil {
		_, err = os.Stdout.Write(output)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}
