#!/usr/bin/env python3
"""Compares what Firebrand makes of chat templates with what transformers makes of them.

    templates.py RENDER_TEMPLATES [--show N]
    templates.py --cases [TEMPLATES.json]

RENDER_TEMPLATES is the example program of that name. With `--cases` the small templates of our own
in `templates.json` are rendered by transformers, and what they give is written there.

The rest is about the first. The templates are those of the installed
packages `trl` and `axolotl`; the conversations are our own. Each is rendered without and with a
generation prompt by both, from the same values: those that transformers hands to a template.
"""

import argparse
import collections
import json
import logging
import pathlib
import subprocess
import sys
from importlib import util

import datetime

from transformers.utils import chat_template_utils

SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}

CASE_MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho", "tool_calls": [{"name": "f", "arguments": {"a": 1.0}}]},
]


def templates():
    """Path below the package, and text, of every template."""
    for package in ("trl", "axolotl"):
        folder = pathlib.Path(util.find_spec(package).submodule_search_locations[0])
        for path in sorted(folder.rglob("*.jinja*")):
            yield f"{package}/{path.relative_to(folder)}", path.read_text(encoding="utf-8")


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather will be.\nOf one place.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": 'Where: a <city> & "country"'},
                "days": {"type": "integer", "default": 3, "minimum": 1},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "hours": {"type": "array", "items": {"type": "number"}},
                "wind": {"type": ["boolean", "null"], "nullable": True},
            },
            "required": ["city"],
        },
    },
}
SHOP = {
    "type": "function",
    "function": {
        "name": "order",
        "description": "Orders.",
        "parameters": {
            "type": "object",
            "properties": {
                "items": {
                    "type": "array",
                    "description": "What",
                    "items": {
                        "type": "object",
                        "properties": {"keys": {"type": "string"}, "get": {"type": "number"}},
                    },
                },
                "values": {"type": "object", "properties": {"a": {"type": "boolean"}}},
                "anyway": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "x"},
                "list": {"type": "array"},
            },
            "required": ["items", "list"],
        },
        "return": {"type": "string", "description": "The order's number"},
    },
}
BARE = {
    "name": "now",
    "description": "The time.",
    "parameters": {"type": "object", "properties": {}},
}


def conversations():
    """Our own conversations, by name."""
    user, answer = message("user", "Will it rain?"), message("assistant", "No.")
    system = message("system", "You are brief.")
    one_call = message(
        "assistant", "", tool_calls=[call("weather", {"city": "Bern"}, id="abcdefgh1")]
    )
    result = message("tool", '{"rain": false}', name="weather", tool_call_id="abcdefgh1")
    yield "plain", [user, answer], None
    yield "system", [system, user, answer], None
    yield (
        "many turns",
        [
            user,
            answer,
            message("user", "Sure?"),
            message("assistant", "Yes."),
            message("user", "Why?"),
            message("assistant", "High pressure."),
        ],
        None,
    )
    yield "tools, no call", [system, user, answer], [WEATHER]
    yield "call, result, answer", [user, one_call, result, answer], [WEATHER]
    yield (
        "two calls",
        [
            user,
            message(
                "assistant",
                "Let me see.",
                tool_calls=[
                    call("weather", {"city": "Bern", "days": 2}, id="abcdefgh1"),
                    call("order", {"items": ["umbrella"], "list": []}, id="abcdefgh2"),
                ],
            ),
            result,
            message("tool", "done", name="order", tool_call_id="abcdefgh2"),
            answer,
        ],
        [WEATHER, SHOP],
    )
    yield (
        "arguments as text",
        [
            user,
            message(
                "assistant", "", tool_calls=[call("weather", '{"city": "Bern"}', id="abcdefgh1")]
            ),
            result,
            answer,
        ],
        [WEATHER],
    )
    yield (
        "nested arguments",
        [
            user,
            message(
                "assistant",
                "",
                tool_calls=[
                    call(
                        "order",
                        {
                            "items": [
                                {"keys": "a'b\"c", "get": 1.0},
                                {"get": 1e16, "keys": "\n\t\\"},
                            ],
                            "values": {"a": True, "b": None, "c": {}, "d": [[], [1, [2.5, -0.0]]]},
                            "list": [1e-7, 12345678901234567, -3, 1e22, False, "é🎉\u2028\x01\x7f"],
                        },
                        id="abcdefgh1",
                    )
                ],
            ),
            message(
                "tool", {"number": 17, "items": ["a", None]}, name="order", tool_call_id="abcdefgh1"
            ),
            answer,
        ],
        [SHOP, BARE],
    )
    yield (
        "reasoning",
        [
            user,
            message("assistant", "No.", reasoning_content="The sky is blue.\n"),
            message("user", "And tomorrow?"),
            message("assistant", "Yes.", reasoning_content=" Clouds "),
        ],
        None,
    )
    yield (
        "reasoning in text",
        [
            user,
            message("assistant", "<think>\nThe sky is blue.\n</think>\n\nNo."),
            message("user", "And tomorrow?"),
            message("assistant", "<think>Clouds</think>Yes."),
        ],
        None,
    )
    yield (
        "reasoning and calls",
        [
            system,
            user,
            {**one_call, "reasoning_content": "I must look.", "thinking": "I must look."},
            result,
            message("assistant", "No.", thinking="It says no."),
        ],
        [WEATHER],
    )
    yield (
        "unicode",
        [
            message("user", "Größe 🎉 \u200b中文\u2028x"),
            message("assistant", " 'q' \"d\" <b>&amp;</b> {{ x }} "),
        ],
        None,
    )
    yield (
        "white space",
        [message("system", "  a \n"), message("user", "\n b\t"), message("assistant", " c\r\n ")],
        None,
    )
    yield "empty", [message("system", ""), message("user", ""), message("assistant", "")], None
    yield (
        "null content",
        [
            user,
            message("assistant", None, tool_calls=[call("weather", {}, id="abcdefgh1")]),
            result,
            answer,
        ],
        [WEATHER],
    )
    yield (
        "no content",
        [
            user,
            {"role": "assistant", "tool_calls": [call("now", {})]},
            message("tool", "12:00"),
            answer,
        ],
        [BARE],
    )
    yield (
        "null tool calls",
        [user, message("assistant", "No.", tool_calls=None, reasoning_content=None)],
        None,
    )
    yield "empty tool calls", [user, message("assistant", "No.", tool_calls=[])], []
    yield (
        "text parts",
        [
            message("system", [{"type": "text", "text": "You are brief."}]),
            message(
                "user", [{"type": "text", "text": "Will it"}, {"type": "text", "text": " rain?"}]
            ),
            message("assistant", [{"type": "text", "text": "No."}]),
        ],
        None,
    )
    yield (
        "image part",
        [
            message("user", [{"type": "image"}, {"type": "text", "text": "What is it?"}]),
            answer,
        ],
        None,
    )
    yield "begins with the assistant", [message("assistant", "Hello."), user, answer], None
    yield "two users", [user, message("user", "Well?"), answer], None
    yield "two assistants", [user, answer, message("assistant", "At all.")], None
    yield "ends with the user", [system, user], None
    yield "ends with a result", [user, one_call, result], [WEATHER]
    yield "ends with a call", [user, one_call], [WEATHER]
    yield "two results", [user, one_call, result, message("tool", "late"), answer], [WEATHER]
    yield "developer", [message("developer", "You are brief."), user, answer], [WEATHER]
    yield "system later", [user, answer, system, message("user", "Hm?"), answer], None
    yield "unknown role", [message("critic", "Bad."), user, answer], None
    yield "numbers", [message("user", 17), message("assistant", 2.0)], None
    yield (
        "result as a list",
        [
            user,
            one_call,
            message("tool", [{"type": "text", "text": "dry"}], name="weather"),
            answer,
        ],
        [WEATHER],
    )
    yield (
        "names and weights",
        [message("user", "Hi.", name="Ann"), message("assistant", "Ho.", weight=0)],
        None,
    )
    yield (
        "calls without function",
        [
            user,
            message(
                "assistant", "", tool_calls=[{"name": "weather", "arguments": {"city": "Bern"}}]
            ),
            result,
            answer,
        ],
        [WEATHER["function"]],
    )
    yield (
        "calls with content",
        [
            user,
            {**one_call, "content": "I look."},
            result,
            message("user", "And?"),
            answer,
        ],
        [WEATHER],
    )
    yield "one system", [system], None
    yield "none", [], None


def as_transformers_hands_over(messages, tools):
    plain = chat_template_utils._plain_template_data
    chat = chat_template_utils._alias_reasoning_fields(plain(messages))
    return {"messages": chat, "tools": plain(tools)}


class Date(datetime.datetime):
    """Firebrand's clock stands still; so does transformers' here."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def theirs(sources, chats):
    chat_template_utils.datetime = Date
    for source in sources:
        try:
            template = chat_template_utils._compile_jinja_template(source)
        except Exception as error:
            template = error
        for chat in chats:
            for generation in (False, True):
                if isinstance(template, Exception):
                    yield {"refused": f"{type(template).__name__}: {template}"}
                    continue
                try:
                    yield {
                        "text": template.render(
                            messages=chat["messages"],
                            tools=chat["tools"],
                            documents=None,
                            add_generation_prompt=generation,
                            **SPECIAL,
                        )
                    }
                except Exception as error:
                    yield {"refused": f"{type(error).__name__}: {error}"}


def ours(program, sources, chats):
    given = json.dumps({"templates": sources, "conversations": chats, "special": SPECIAL})
    done = subprocess.run([program], input=given, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def verdict(mine, other):
    if "text" in mine and "text" in other:
        return "equal" if mine["text"] == other["text"] else "different"
    if "text" in mine:
        return "rendered by us alone"
    return "refused by us alone" if "text" in other else "refused by both"


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return (
        f"at {at}: ours {a[max(0, at - 30) : at + 60]!r}, theirs {b[max(0, at - 30) : at + 60]!r}"
    )


def compare(program, named, chats, show):
    """Prints the counts; returns whether there is nothing but what is equal."""
    names = [name for name, _ in named]
    sources = [source for _, source in named]
    handed = [as_transformers_hands_over(messages, tools) for _, messages, tools in chats]
    places = [
        (name, chat[0], generation)
        for name in names
        for chat in chats
        for generation in (False, True)
    ]
    pairs = zip(places, ours(program, sources, handed), theirs(sources, handed), strict=True)
    counts, shown = collections.Counter(), 0
    for (name, chat, generation), mine, other in pairs:
        found = verdict(mine, other)
        counts[found] += 1
        if found in ("equal", "refused by both") or shown >= show:
            continue
        shown += 1
        prompt = "with" if generation else "without"
        print(f"{found}: {name}, {chat}, {prompt} a prompt")
        if found == "different":
            print("   ", first_difference(mine["text"], other["text"]))
        else:
            print("   ", mine.get("refused") or other.get("refused"))
    print(f"{len(names)} templates, {len(chats)} conversations: {dict(counts)}")
    return set(counts) <= {"equal", "refused by both"}


def write_cases(path):
    """Notes what transformers makes of small templates; null where it refuses."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    chat = {"messages": CASE_MESSAGES, "tools": None}
    sources = [stored["set"] + case["template"] for case in stored["cases"]]
    answers = list(theirs(sources, [chat]))
    for case, answer in zip(stored["cases"], answers[::2], strict=True):
        # An address in memory is no answer.
        case["text"] = None if " at 0x" in answer.get("text", "") else answer.get("text")
        if "text" not in answer:
            print(json.dumps(case["template"]), answer["refused"], file=sys.stderr)
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in stored["cases"])
    head = json.dumps({"set": stored["set"], "messages": CASE_MESSAGES})[:-1]
    path.write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("program", nargs="?")
    parser.add_argument(
        "--cases",
        nargs="?",
        metavar="FILE",
        type=pathlib.Path,
        const=pathlib.Path(__file__).with_name("templates.json"),
    )
    parser.add_argument(
        "--show", type=int, default=20, metavar="N", help="so many differences in full"
    )
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    if args.cases:
        return write_cases(args.cases)
    if not args.program:
        parser.error("the program is missing")
    same = compare(args.program, list(templates()), list(conversations()), args.show)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
