// What Ollama itself makes of a Modelfile: prints its commands, and the conversations on stdin as its TEMPLATE writes
// them. `../ollama.py` compares these with transformers, and says how this is built.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/parser"
	"github.com/ollama/ollama/template"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func main() {
	file, err := os.Open(os.Args[1])
	check(err)
	model, err := parser.ParseFile(file)
	check(err)
	for _, command := range model.Commands {
		if command.Name != "template" {
			fmt.Printf("%s %q\n", command.Name, command.Args)
			continue
		}
		parsed, err := template.Parse(command.Args)
		check(err)
		var conversations [][]api.Message
		check(json.NewDecoder(os.Stdin).Decode(&conversations))
		for _, messages := range conversations {
			fmt.Print("--- rendered\n")
			check(parsed.Execute(os.Stdout, template.Values{Messages: messages}))
			fmt.Print("\n--- end\n")
		}
	}
}
