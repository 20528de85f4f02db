// A task reads its input from standard input and writes its output to standard output. Exit code 0 means
// that it completed. Standard error goes to its log.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	input, err := io.ReadAll(os.Stdin)
	name := strings.TrimSpace(string(input))
	if err == nil && name == "" {
		err = fmt.Errorf("say whom to greet")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("Hello, %s!", name)
}
