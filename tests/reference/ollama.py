#!/usr/bin/env python3
"""Compare what Ollama's own parser and template engine make of the `Modelfile` of an export with what transformers
writes by the model's chat template.

    python ollama.py JUDGE MODELFILE MODEL_DIR

JUDGE is `ollama/judge.go`, built within Ollama's sources: with Go and its modules at hand, put it into a folder
`judge` of a checkout of https://github.com/ollama/ollama and say `go build -o JUDGE ./judge`.
"""
import json
import subprocess
import sys

from transformers import AutoTokenizer

CONTENTS = ["Hello, world!", " spaces and\nlines \n", "{{ x }} & <b>'\"\\", "größe 日本 🎉"]


def conversations():
    for text in CONTENTS:
        user, answer = {"role": "user", "content": text}, {"role": "assistant", "content": text}
        system = {"role": "system", "content": "Be brief."}
        yield [user]
        yield [system, user]
        yield [system, user, answer, user]
        yield [user, answer, user, answer, user]


def main(judge, modelfile, model):
    asked = list(conversations())
    made = subprocess.run([judge, modelfile], input=json.dumps(asked), text=True, capture_output=True)
    if made.returncode:
        sys.exit(f"Ollama refuses it: {made.stderr}")
    commands, *theirs = made.stdout.split("--- rendered\n")
    tokenizer = AutoTokenizer.from_pretrained(model)
    wrong = 0
    for conversation, text in zip(asked, theirs, strict=True):
        wanted = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        wrong += text.split("\n--- end\n")[0] != wanted
    after = theirs[-1].split("\n--- end\n")[1]
    print(f"commands: {' '.join((commands + after).split())}")
    print(f"{len(asked) - wrong} of {len(asked)} conversations as transformers writes them")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
