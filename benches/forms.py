#!/usr/bin/env python3
"""How fast records of several forms become rows: with tools, other fields, marks, many turns.

    forms.py FIREBRAND [OTHER] [--megabytes 40] [--pairs 5] [--only FORM]

The records are made of the data sets of this repository, with other words in each. Each pair runs
`firebrand data CONFIG --count --rows 0` of both programs in turn, with an empty cache; printed are
medians of wall time, of CPU time (that of the process that renders included), and of OTHER divided
by FIREBRAND, pair by pair.
"""

import argparse
import copy
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
BASE = HERE / "checkpoints/base-tiny"

CHATML = (HERE / "configs/base-tiny/chat_template.jinja").read_text(encoding="utf-8")
# Calls and answers in the way of Qwen 2.5; with marks as TRL puts them.
TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role != 'tool' %}{{- '<|im_start|>' + message.role + '\\n' }}[BEGIN]
{%- if message.content %}{{- message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\\n' }}[END]
{%- else %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
# Only what the assistant says is marked.
MARKS = """{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}{%- generation %}{{- message.content + '<|im_end|>\\n' }}
{%- endgeneration %}{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def records(name):
    lines = (HERE / "datasets" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


CHAT = records("quickstart.jsonl")
CALLS = records("tools.jsonl")
WORDS = [
    word
    for record in CHAT
    for message in record["messages"]
    for word in (message["content"] or "").split()
    if word.isalpha()
]


def words(count):
    return " ".join(random.choice(WORDS) for _ in range(count))


def plain(number):
    messages = copy.deepcopy(CHAT[number % len(CHAT)]["messages"])
    first = next(message for message in messages if message["role"] == "user")
    first["content"] += f" {number}"
    return {"messages": messages}


def tools(number):
    record = copy.deepcopy(CALLS[number % len(CALLS)])
    for message in record["messages"]:
        if message["role"] == "user":
            message["content"] += f" {words(3)} {number}"
        elif message["role"] == "tool":
            message["content"] = json.dumps({"result": words(3), "n": random.randrange(10_000)})
        elif message.get("content"):
            message["content"] += " " + words(4)
        for call in message.get("tool_calls") or []:
            arguments = call["function"]["arguments"]
            for key, value in arguments.items() if isinstance(arguments, dict) else []:
                arguments[key] = words(2) if isinstance(value, str) else value
    return record


def own_tools(number):
    record = tools(number)
    parsed = lambda value: json.loads(value) if isinstance(value, str) else value
    record["tools"] = [parsed(tool) for tool in parsed(record["tools"])]
    for tool in record["tools"]:
        function = tool.get("function", tool)
        function["description"] = words(6)
        parameters = function.setdefault("parameters", {"type": "object"})
        more = {"type": "string", "description": words(4)}
        parameters.setdefault("properties", {})[random.choice(WORDS)] = more
    return record


def fields(number):
    record = plain(number)
    for message in record["messages"]:
        message |= {"id": f"m{number}", "timestamp": 1_700_000_000 + number, "lang": "en"}
        message["author"] = random.choice(WORDS)
    return record


def turns(number):
    spoken = lambda record: [it for it in record["messages"] if it["role"] != "system"]
    return {"messages": [it for part in range(3) for it in spoken(plain(3 * number + part))]}


UNMARKED = TOOLS.replace("[BEGIN]", "").replace("[END]", "")
PHI = (HERE / "tests/fixtures/styles/phi-3.jinja").read_text(encoding="utf-8")
FORMS = {
    "plain": (plain, CHATML),
    "tools": (tools, UNMARKED),
    "tools of their own": (own_tools, UNMARKED),
    "other fields": (fields, CHATML),
    "marks": (plain, MARKS),
    "turns of Phi 3": (turns, PHI),
}


def prepare(folder, form, megabytes):
    make, template = FORMS[form]
    random.seed(7)
    (folder / "template.jinja").write_text(template, encoding="utf-8")
    written, number = 0, 0
    with open(folder / "data.jsonl", "w", encoding="utf-8") as out:
        while written < megabytes << 20:
            written += out.write(json.dumps(make(number)) + "\n")
            number += 1
    (folder / "run.toml").write_text(
        f'name = "forms"\n[model]\nbase = "{BASE}"\n[data]\nmax_seq_len = 512\n'
        f'chat_template = "{folder}/template.jinja"\n[[data.train]]\n'
        f'path = "{folder}/data.jsonl"\n[lora]\nr = 4\n[output]\ndir = "{folder}/run"\n',
        encoding="utf-8",
    )


def once(program, folder):
    """Wall and CPU time in seconds, and the last line of the output."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        before, began = os.times(), time.monotonic()
        command = [program, "data", f"{folder}/run.toml", "--count", "--rows", "0"]
        env = dict(os.environ, FIREBRAND_CACHE=cache, XDG_CACHE_HOME=cache)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        wall, after = time.monotonic() - began, os.times()
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return wall, cpu, done.stdout.strip().split(" in ")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("firebrand")
    parser.add_argument("other", nargs="?")
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only")
    args = parser.parse_args()
    for form in [args.only] if args.only else FORMS:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            prepare(folder, form, args.megabytes)
            programs = [args.firebrand] + ([args.other] if args.other else [])
            rounds = [[once(program, folder) for program in programs] for _ in range(args.pairs)]
            median = lambda of: statistics.median(of(one) for one in rounds)
            line = f"{form}: {rounds[0][0][2]}"
            for at, program in enumerate(programs):
                wall, cpu = median(lambda one: one[at][0]), median(lambda one: one[at][1])
                line += f"; {wall:.2f} s, {cpu:.2f} s of CPU"
            if args.other:
                wall = median(lambda one: one[1][0] / one[0][0])
                cpu = median(lambda one: one[1][1] / one[0][1])
                same = all(one[0][2] == one[1][2] for one in rounds)
                line += f"; ratios {wall:.2f} and {cpu:.2f}, {'same' if same else 'OTHER'} rows"
            print(line, flush=True)


if __name__ == "__main__":
    main()
