#!/usr/bin/env python3
"""Compares target tokens with those of transformers, on the training templates of TRL.

    masks.py FIREBRAND MODEL_DIR [--only NAME] [--show]

TRL's training templates mark what the model writes (`{% generation %}`). Each of them writes the
conversations below twice: by transformers with `return_assistant_tokens_mask`, and by `firebrand
data`, once with its marks and once with the marks taken out, so that turns have to be found. The
templates are read from the installed package and nothing of them is kept.

MODEL_DIR gives the tokenizer (`checkpoints/base-tiny/artifact`); what a template writes as
`<|…|>` is added to it as special tokens. Exit code 1 where tokens or targets differ in a way that
`datasets/README.md` does not name. Needs trl and transformers (seen: 1.16.0, 5.24.0), no torch.
"""

import argparse
import collections
import datetime
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec

from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

logging.getLogger("transformers").setLevel(logging.ERROR)

TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string", "description": "a town"}},
                   "required": ["town"]}}}]


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def calls(*towns, text="", **more):
    made = [{"id": f"call{n:05}", "type": "function",
             "function": {"name": "weather", "arguments": {"town": town}}} for n, town in enumerate(towns)]
    return {"role": "assistant", "content": text, "tool_calls": made, **more}


def answers(text, number=0):
    return {"role": "tool", "name": "weather", "tool_call_id": f"call{number:05}", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS = {
    "one turn": [user("Hi"), says("Hello, you.")],
    "system": [SYSTEM, user("Hi"), says("Hello.")],
    "three turns": [user("a"), says("one"), user("b"), says("two"), user("c"), says("three")],
    "the user's words again": [user("Oslo"), says("Oslo is Oslo."), user("So"), says("So it is.")],
    "one letter": [user("a"), says("a"), user("a"), says("a")],
    "letters and lines": [user("ß 日本 🎉?"), says("Ja: 日本 🎉\n\nund ß.\n")],
    "spaces around": [user("  a  "), says("  b  "), user("c"), says(" d\n")],
    "reasoning": [user("1+1?"), says("Two.", reasoning_content="One and one.")],
    "reasoning first": [user("a"), says("A", reasoning_content="ra"), user("b"), says("B")],
    "reasoning last": [user("a"), says("A"), user("b"), says("B", reasoning_content="rb")],
    "reasoning inside": [user("a"), says("<think>\nmm\n</think>\n\nA"), user("b"), says("<think>\nnn\n</think>\n\nB")],
    "no answer": [user("a"), says("A"), user("b")],
    "an empty answer": [user("a"), says(""), user("b"), says("B")],
    "the assistant begins": [says("Welcome."), user("Hi"), says("Hello.")],
    "system, the assistant begins": [SYSTEM, says("Welcome."), user("Hi"), says("Hello.")],
    "a call": [user("Wet in Oslo?"), calls("Oslo"), answers("rain, 7 degrees"), says("Yes, it rains.")],
    "a call with words": [user("Wet?"), calls("Oslo", text="Let me see."), answers("rain 77"), says("Yes.")],
    "a call last": [user("Wet in Oslo?"), calls("Oslo")],
    "a call and more": [user("Wet?"), calls("Oslo"), answers("sun"), says("No."), user("Sure?"), says("I am.")],
    "two calls in turn": [user("Wet?"), calls("Oslo"), answers("sun"), calls("Bergen"), answers("rain"), says("There.")],
    "two calls at once": [user("Wet?"), calls("Oslo", "Bergen"), answers("sun"), answers("rain", 1), says("Partly.")],
    "reasoning and a call": [user("Wet?"), calls("Oslo", reasoning_content="I ask."), answers("sun"),
                             says("No.", reasoning_content="Sun is dry.")],
    "a tool's words again": [user("Wet?"), calls("Oslo"), answers("No"), says("No")],
}


def special_tokens(template):
    """What looks like a control token in a template."""
    text = re.sub(r"\{#.*?#\}", "", template, flags=re.S)
    found = re.findall(r"<[|｜][^|｜<>\s]{1,40}[|｜]>|<(?:start|end)_of_\w+>|<\|?\w{1,20}\|?>|</s>|\[/?INST\]", text)
    return sorted({token for token in found if "|" in token or "｜" in token or "_of_" in token or token in ("</s>", "[INST]", "[/INST]")})


def model(folder, base, template):
    """A model directory with this template, whose tokenizer knows its control tokens."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, folder / name)
    (folder / "chat_template.jinja").write_text(template)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    known = {token["content"] for token in tokenizer["added_tokens"]}
    number = 1 + max([token["id"] for token in tokenizer["added_tokens"]] + list(tokenizer["model"]["vocab"].values()))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for text in special_tokens(template):
        if text not in known:
            token = {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                     "single_word": False, "special": True}
            tokenizer["added_tokens"].append({"id": number, **token})
            config["added_tokens_decoder"][str(number)] = token
            number += 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    shape = json.loads((folder / "config.json").read_text())
    rows, shape["vocab_size"] = shape["vocab_size"], max(shape["vocab_size"], number)
    (folder / "config.json").write_text(json.dumps(shape))
    weights = (base / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(with_rows(weights, rows, shape["vocab_size"]))


def with_rows(weights, rows, wanted):
    """A safetensors file in which the matrices with a row for each token have rows for more of them."""
    size = int.from_bytes(weights[:8], "little")
    header, data, at = json.loads(weights[8:8 + size]), [], 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        bytes_of = weights[8 + size + begin:8 + size + end]
        if tensor["shape"][0] == rows:
            bytes_of += bytes((end - begin) // rows * (wanted - rows))
            tensor["shape"][0] = wanted
        tensor["data_offsets"] = [at, at + len(bytes_of)]
        at += len(bytes_of)
        data.append(bytes_of)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data)


def without_marks(template):
    template = re.sub(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})", r"\1if true\2", template)
    return re.sub(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})", r"\1endif\2", template)


class Then(datetime.datetime):
    """The date that we tell a template that asks for it."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def forms(messages):
    """The record, and what Firebrand makes of it where a template does not write all of it: text as a
    list of parts (TRL does so for models with images), an empty text beside calls as null, and the
    arguments of a call as JSON text."""
    def as_parts(message):
        text = message["content"]
        return {**message, "content": [{"type": "text", "text": text}]} if isinstance(text, str) else message

    def as_null(message):
        return {**message, "content": None} if message.get("tool_calls") and message["content"] == "" else message

    def as_text(message):
        made = [{**it, "function": {**it["function"], "arguments": json.dumps(it["function"]["arguments"])}}
                for it in message.get("tool_calls", ())]
        return {**message, "tool_calls": made} if made else message

    found = [messages]
    for change in (as_parts, as_null, as_text):
        found += [form for form in ([change(message) for message in old] for old in list(found)) if form not in found]
    return found


def words_reach_the_text(tokenizer, messages):
    """Does all that the record says stand in what the template writes? Each part is told by a word of its own."""
    words = []

    def word():
        words.append(f"w{len(words)}w")
        return words[-1]

    changed = []
    for message in messages:
        message = dict(message)
        if message["content"]:
            message["content"] = word()
        if "tool_calls" in message:
            message["tool_calls"] = [{**it, "function": {"name": it["function"]["name"], "arguments": {"town": word()}}}
                                     for it in message["tool_calls"]]
        changed.append(message)
    try:
        text = tokenizer.apply_chat_template(changed, tools=tools_of(messages), tokenize=False)
    except Exception:  # noqa: BLE001 - templates raise whatever they like
        return False
    return all(it in text for it in words)


def tools_of(messages):
    return TOOLS if any(message["role"] == "tool" or "tool_calls" in message for message in messages) else None


def theirs(tokenizer, messages):
    """Tokens and mask of a conversation; why there is none otherwise."""
    try:
        out = tokenizer.apply_chat_template(messages, tools=tools_of(messages), tokenize=True, return_dict=True,
                                            return_assistant_tokens_mask=True)
    except Exception as error:  # noqa: BLE001 - templates raise whatever they like
        return str(error).splitlines()[0]
    mask = [bool(it) for it in out["assistant_masks"]]
    return out["input_ids"], [False] + mask[1:]  # nothing stands before the first token to predict it from


def ours(firebrand, folder):
    """The same from `firebrand data`; what is left out is missing."""
    lines = []
    for messages in CONVERSATIONS.values():
        record = {"messages": messages}
        if tools_of(messages):
            record["tools"] = TOOLS
        lines.append(json.dumps(record))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "run.toml").write_text(f'''name = "masks"
[model]
base = "{folder}"
[data]
max_seq_len = 4096
packing = false
shuffle = false
max_bad_rows = 1000
[[data.train]]
path = "{folder}/data.jsonl"
[lora]
r = 4
[train]
epochs = 1
micro_batch_size = 1
gradient_accumulation_steps = 1
[device]
name = "cpu"
[output]
dir = "{folder}/run"
''')
    done = subprocess.run([firebrand, "data", folder / "run.toml", "--rows", "0", "--json"],
                          capture_output=True, text=True, cwd=folder,
                          env={**os.environ, "FIREBRAND_CACHE": str(folder / "cache")})  # nothing of another program
    found, names = {}, list(CONVERSATIONS)
    for line in done.stdout.splitlines():
        batch = json.loads(line)
        tokens = [token for token, document in zip(batch["tokens"], batch["documents"]) if document]
        mask = [False] * len(tokens)
        for index, _ in batch["targets"]:
            mask[index + 1] = True
        number = int(batch["sources"][0][0].rsplit(":", 1)[1])
        found[names[number - 1]] = (tokens, mask)
    return found, done.stderr


def marked(tokenizer, tokens, mask):
    pieces, last = [], False
    for token, learnt in zip(tokens, mask):
        if learnt != last:
            pieces.append("⟦" if learnt else "⟧")
        pieces.append(tokenizer.decode([token]))
        last = learnt
    return "".join(pieces) + ("⟧" if last else "")


def given(tokenizer, messages):
    """How many letters of the text the generation prompt of each answer has in common with it."""
    def text_of(some, prompt):
        return tokenizer.apply_chat_template(some, tools=tools_of(messages), tokenize=False, add_generation_prompt=prompt)
    text, ends = text_of(messages, False), []
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            try:
                prompt = text_of(messages[:at], True)
                again = not text.startswith(text_of(messages[:at], False))
            except Exception:  # noqa: BLE001 - a template may want a question
                again = True
            if again:  # what it writes behind a question, wherever that stands
                with_it, without = (text_of([user("a")], prompt) for prompt in (True, False))
                known = with_it.removeprefix(without)
                for found in re.finditer(re.escape(known[:5]), text):
                    written = zip(known, text[found.start():])
                    ends.append(found.start() + next((n for n, (a, b) in enumerate(written) if a != b), len(known)))
                continue
            same = (n for n, (a, b) in enumerate(zip(text, prompt)) if a != b)
            ends.append(next(same, min(len(text), len(prompt))))
    return ends


def runs(mask):
    """Beginnings and ends of what is true."""
    edges = [at for at, (a, b) in enumerate(zip([False, *mask], [*mask, False])) if a != b]
    return list(zip(edges[::2], edges[1::2]))


def reasons(tokenizer, messages, tokens, expected, got):
    """Why two masks differ, a name for each difference; `differ` where there is no reason."""
    special, ends = set(tokenizer.added_tokens_decoder), given(tokenizer, messages)
    for begin, end in runs([a and not b for a, b in zip(expected, got)]):
        of_theirs = next((first, last) for first, last in runs(expected) if first <= begin < last)
        first, last = (len(tokenizer.decode(tokens[:it])) for it in of_theirs)
        reached = len(tokenizer.decode(tokens[:end]))
        prompt = min((it for it in ends if first < it <= last), default=0)
        if begin == of_theirs[0] and reached <= prompt:
            yield "generation prompt"
        elif tokens[begin - 1] in special and not tokenizer.decode(tokens[begin:end]).strip():
            yield "blank after the end"
        else:
            yield "differ"
    for begin, end in runs([b and not a for a, b in zip(expected, got)]):
        call_ends = tokenizer.decode(tokens[begin:end]) == "<|tool_response>"
        yield "end of a call" if call_ends else "differ"


def verdict(tokenizer, messages, got):
    """What becomes of a conversation, and the form and what transformers makes of it that it was compared with."""
    asked = [(form, theirs(tokenizer, form)) for form in forms(messages)]
    form, expected = asked[0]
    refused = isinstance(expected, str)
    whole = not refused and words_reach_the_text(tokenizer, messages)
    if got is None:
        if refused:
            return ["refused by both"], expected
        if not any(expected[1]):
            return ["nothing to learn"], expected
        return ["refused by us alone" if whole else "not all of it written"], expected
    found = []
    if not whole:
        # Another form of the record, since this one would not reach the model.
        form, expected = next((it for it in asked if it[1][0] == got[0]), asked[0])
        found = ["another form"]
        if expected[0] != got[0] and any("has no attribute 'content'" in it for _, it in asked if isinstance(it, str)):
            return ["null content"], expected  # transformers leaves it out, and the template asks for it
    if isinstance(expected, str):
        return ["rendered by us alone"], expected
    if got[0] != expected[0]:
        return ["other tokens"], expected
    found += sorted(set(reasons(tokenizer, form, *expected, got[1])))
    return found or ["equal"], expected


WRONG = {"differ", "other tokens", "rendered by us alone", "refused by us alone"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("firebrand", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--only", help="templates whose name has this in it")
    parser.add_argument("--show", action="store_true", help="both texts of every difference")
    args = parser.parse_args()
    chat_template_utils.datetime = Then
    package = pathlib.Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
    totals = {"with marks": collections.Counter(), "without marks": collections.Counter()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        for path in sorted(package.glob("*.jinja")):
            template = path.read_text(encoding="utf-8")
            if not re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", template) or (args.only and args.only not in path.stem):
                continue
            model(folder, args.model.resolve(), template)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            for mode, text in (("with marks", template), ("without marks", without_marks(template))):
                model(folder, args.model.resolve(), text)
                got, told = ours(args.firebrand.resolve(), folder)
                for name, messages in CONVERSATIONS.items():
                    found, expected = verdict(tokenizer, messages, got.get(name))
                    totals[mode][", ".join(found)] += 1
                    if not WRONG & set(found):
                        continue
                    print(f"{path.stem}, {mode}, {name}: {', '.join(found)}")
                    if args.show and not isinstance(expected, str):
                        print("  theirs", repr(marked(tokenizer, *expected)))
                    if args.show and name in got:
                        print("  ours  ", repr(marked(tokenizer, *got[name])))
                if args.show and len(got) < len(CONVERSATIONS):
                    print("  said:", "\n        ".join(line[:300] for line in told.splitlines() if "skipped" in line or "error" in line))
    for mode, found in totals.items():
        print(f"{mode}:", "; ".join(f"{count} {kind}" for kind, count in found.most_common()))
    sys.exit(any(WRONG & set(kind.split(", ")) for found in totals.values() for kind in found))


if __name__ == "__main__":
    main()
