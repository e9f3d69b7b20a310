"""Chat records of which a fifth is learnt: sft_records.py TEXTS.jsonl COUNT > RECORDS.jsonl

Each text (`make_datasets text`) is cut: four fifths of its words are what the user says, the rest
is the answer.
"""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    for _, line in zip(range(int(sys.argv[2])), file):
        words = json.loads(line)["text"].split(" ")
        cut = len(words) * 4 // 5
        turns = zip(("user", "assistant"), (words[:cut], words[cut:]))
        messages = [{"role": role, "content": " ".join(part)} for role, part in turns]
        print(json.dumps({"messages": messages}))
