#!/usr/bin/env python3
"""Does transformers answer as `firebrand classify` does? Run by hand, with transformers from 5.24 on.

    firebrand export ADAPTER --format jev --type f32 --out DECIDES
    firebrand merge ADAPTER --dtype f32 --out MERGED
    jev.py DECIDES MERGED TEXTS.jsonl [--program firebrand]

Loads the decision model by `JevForDecision` and by the pipeline, in f32 on the CPU, and asks one `choice` question on
every line of TEXTS.jsonl, an object with `text` or `messages`. Its probabilities must be those of `firebrand classify
MERGED` (or of the adapter, where base and adapter are in f32), within 1e-5. Every weight must be found under its name,
options in another order and other questions must be refused, and `noul` must say what `choice` says. Exit code 1 where
something is otherwise.
"""
import argparse
import json
import os
import subprocess
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
import transformers
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, JevForDecision, pipeline
from transformers.decision.modeling_utils import DecisionMixin

LIMIT = 1e-5


def request(state, labels, kind="choice"):
    criteria = {"criteria": dict.fromkeys(labels)} if kind == "choice" else {}
    return {"state": state, "questions": {"it": {"type": kind, **criteria}}}


def scored(program, model, states):
    """The probabilities that Firebrand prints."""
    lines = "".join(json.dumps({"text" if isinstance(state, str) else "messages": state}) + "\n" for state in states)
    call = [program, "classify", model, "-", "--jsonl", "--device", "cpu"]
    printed = subprocess.run(call, input=lines, capture_output=True, text=True)
    if printed.returncode != 0:
        sys.exit(printed.stderr)
    return [json.loads(line)["probabilities"] for line in printed.stdout.splitlines()]


def decided(model, tokenizer, asked):
    (inputs, questions), = model.decision_config.prepare_inputs(asked, tokenizer)
    scores, = model.decide(**inputs, decision_questions=questions)
    return questions[0].answer(scores.softmax(-1).tolist())


def is_refused(decide, asked):
    try:
        decide(asked)
    except TemplateError as refusal:
        print(f"refused: {refusal}")
        return True
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("decides")
    parser.add_argument("classifies")
    parser.add_argument("texts")
    parser.add_argument("--program", default="firebrand")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    lines = map(json.loads, open(options.texts, encoding="utf-8"))
    states = [line["text"] if "text" in line else line["messages"] for line in lines]

    f32 = dict(dtype=torch.float32)
    _, loading = super(DecisionMixin, JevForDecision).from_pretrained(options.decides, output_loading_info=True, **f32)
    wrong = [f"{what}: {names}" for what, names in loading.items() if names]
    model = JevForDecision.from_pretrained(options.decides, **f32).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.decides)
    decide = pipeline("decision", model=options.decides, device="cpu", **f32)
    labels = model.decision_config.labels["choice"]

    far = 0.0
    for state, ours in zip(states, scored(options.program, options.classifies, states), strict=True):
        if list(ours) != labels:
            sys.exit(f"other labels: {list(ours)} and {labels}")
        for answer in (decided(model, tokenizer, request(state, labels)), decide(request(state, labels))["it"]):
            far = max(far, *(abs(answer["probabilities"][label] - ours[label]) for label in labels))
        if "noul" in model.decision_config.labels:
            yes = labels[model.decision_config.noul_options.index("true")]
            far = max(far, abs(decided(model, tokenizer, request(state, [], "noul"))["noul"] - ours[yes]))
    print(f"{len(states)} states: probabilities are at most {far:.1e} apart")

    refused = [request("a", labels[::-1]), request("a", labels[:1])]
    refused.append({"state": "a", "questions": {"it": {"type": "score", "criteria": labels}}})
    if "noul" not in model.decision_config.labels:
        refused.append(request("a", [], "noul"))
    wrong += [f"not refused: {asked['questions']}" for asked in refused if not is_refused(decide, asked)]
    wrong += [f"more than {LIMIT} apart"] * (far > LIMIT)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
