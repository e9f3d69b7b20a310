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
import datetime
import json
import logging
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
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
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
    shape["vocab_size"] = max(shape["vocab_size"], number)
    (folder / "config.json").write_text(json.dumps(shape))


def without_marks(template):
    template = re.sub(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})", r"\1if true\2", template)
    return re.sub(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})", r"\1endif\2", template)


class Then(datetime.datetime):
    """The date that we tell a template that asks for it."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def theirs(folder):
    """Tokens and mask of every conversation that transformers renders."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = {}
    for name, messages in CONVERSATIONS.items():
        tools = TOOLS if any(message["role"] == "tool" or "tool_calls" in message for message in messages) else None
        try:
            out = tokenizer.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True,
                                                return_assistant_tokens_mask=True)
        except Exception as error:  # noqa: BLE001 - templates raise whatever they like
            found[name] = str(error).splitlines()[0]
            continue
        found[name] = (out["input_ids"], [bool(it) for it in out["assistant_masks"]])
    return found, tokenizer


def ours(firebrand, folder):
    """The same from `firebrand data`; what is left out is missing."""
    lines = []
    for messages in CONVERSATIONS.values():
        record = {"messages": messages}
        if any(message["role"] == "tool" or "tool_calls" in message for message in messages):
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
                          capture_output=True, text=True, cwd=folder)
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


def blank_after_end(tokenizer, tokens, special, mask):
    """The mask without white space behind a special token, of which we say that no one writes it."""
    mask, after = list(mask), False
    for at, token in enumerate(tokens):
        blank = token not in special and not tokenizer.decode([token]).strip()
        after = token in special or (after and blank)
        if blank and after and (at + 1 == len(tokens) or not mask[at + 1]):
            mask[at] = False
    return mask


def without_prompt(tokenizer, tokens, mask):
    """The mask without what the generation prompt writes, which is given where the model answers."""
    question = [user("a")]
    with_it = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    without = tokenizer.apply_chat_template(question, tokenize=False)
    same = 0
    while same < min(len(with_it), len(without)) and with_it[same] == without[same]:
        same += 1
    prompt, mask = with_it[same:] if same == len(without) else with_it[with_it.rfind("<", 0, same + 1):], list(mask)
    for at, learnt in enumerate(mask):
        if learnt and (at == 0 or not mask[at - 1]):
            for first in range(max(0, at - 12), at + 1):
                end = at
                while end < len(tokens) and mask[end] and prompt.startswith(tokenizer.decode(tokens[first:end + 1])):
                    end += 1
                if end > at:
                    mask[at:end] = [False] * (end - at)
                    break
    return mask


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("firebrand", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--only", help="templates whose name has this in it")
    parser.add_argument("--all", action="store_true", help="also differences that are named in datasets/README.md")
    parser.add_argument("--show", action="store_true", help="both texts of every difference")
    args = parser.parse_args()
    chat_template_utils.datetime = Then
    package = pathlib.Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
    counts = dict.fromkeys(["equal", "blank after the end", "generation prompt", "differ", "other tokens", "refused by both",
                            "refused by us alone", "rendered by us alone", "nothing to learn"], 0)
    totals = {"with marks": dict(counts), "without marks": dict(counts)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        for path in sorted(package.glob("*.jinja")):
            template = path.read_text(encoding="utf-8")
            if not re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", template) or (args.only and args.only not in path.stem):
                continue
            model(folder, args.model.resolve(), template)
            reference, tokenizer = theirs(folder)
            special = set(tokenizer.added_tokens_decoder)
            for mode, text in (("with marks", template), ("without marks", without_marks(template))):
                model(folder, args.model.resolve(), text)
                got, said = ours(args.firebrand.resolve(), folder)
                for name, expected in reference.items():
                    kind = verdict(tokenizer, special, expected, got.get(name), mode)
                    totals[mode][kind] += 1
                    fine = kind in ("equal", "refused by both", "nothing to learn", "blank after the end", "generation prompt")
                    if fine and not (args.all and kind in ("blank after the end", "generation prompt")):
                        continue
                    print(f"{path.stem}, {mode}, {name}: {kind}")
                    if args.show and not isinstance(expected, str):
                        print("  theirs", repr(marked(tokenizer, *expected)))
                    if args.show and name in got:
                        print("  ours  ", repr(marked(tokenizer, *got[name])))
                if args.show and len(got) < len(reference):
                    print("  said:", "\n        ".join(line[:300] for line in said.splitlines() if "skipped" in line or "error" in line))
    wrong = 0
    for mode, found in totals.items():
        print(f"{mode}:", ", ".join(f"{count} {kind}" for kind, count in found.items()))
        wrong += found["differ"] + found["other tokens"] + found["rendered by us alone"] + found["refused by us alone"]
    sys.exit(wrong > 0)


def verdict(tokenizer, special, expected, got, mode):
    if isinstance(expected, str):
        return "refused by both" if got is None else "rendered by us alone"
    tokens, mask = expected
    mask = [False] + mask[1:]  # nothing stands before the first token to predict it from
    if got is None:
        return "refused by us alone" if any(mask) else "nothing to learn"
    if got[0] != tokens:
        return "other tokens"
    if got[1] == mask:
        return "equal"
    if mode == "without marks" and got[1] == blank_after_end(tokenizer, tokens, special, mask):
        return "blank after the end"
    given = without_prompt(tokenizer, tokens, mask)
    if mode == "without marks" and got[1] == blank_after_end(tokenizer, tokens, special, given):
        return "generation prompt"
    return "differ"


if __name__ == "__main__":
    main()
