#!/usr/bin/env python3
"""Do llama.cpp and ggml's own reader see in our GGUF files what we put there? Run by hand.

    pip install gguf numpy safetensors tokenizers xllamacpp    # and torch, transformers for `families`
    gguf_check.py tensors FILE.gguf MODEL_DIR [ADAPTER_DIR]
    gguf_check.py tokens  FILE.gguf MODEL_DIR
    gguf_check.py logits  FILE.gguf OURS.safetensors BATCHES.jsonl
    gguf_check.py greedy  FILE.gguf MODEL FIREBRAND [PROMPT...]
    gguf_check.py tiny    FIREBRAND          # all cases of tiny/, every type
    gguf_check.py rules   FIREBRAND MODEL_DIR
    gguf_check.py families FIREBRAND [CASE...]
    gguf_check.py lora    FIREBRAND [CASE...]    # and peft

tensors: every number, dequantised by PyPI `gguf`, against W + s·B·A computed here with numpy.
tokens:  llama.cpp's tokens of some texts against those of Hugging Face `tokenizers`.
logits:  llama.cpp's logits against ours (`cargo run --release --example logits`).
greedy:  the most likely continuation, token by token, against `firebrand generate`.
tiny:    llama.cpp's logits against what transformers computed for the tiny models.
rules:   as `tokens`, with each rule for splitting text that can be written, on the vocabulary of
         MODEL_DIR (byte-level BPE), and with a vocabulary of the SentencePiece kind.
families: with the tiny models of families/, the texts that transformers wrote, of every family that
         can be written, by llama.cpp and by Firebrand from the GGUF file.
lora:    with the same models and an adapter of PEFT beside all linear layers where llama.cpp adds some, its logits and texts of
         the base with the adapter that Firebrand wrote (`--format gguf-lora`) against those of both in one file.
llama.cpp is the one in PyPI `xllamacpp`, on one thread.
`rules` also compares the tokenizer that Firebrand reads from the file with the one it was made of.
Exit code 1: something differs by more than the limit printed beside it.
"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open

HERE = Path(__file__).parent
TEXTS = [
    "Hello, world!", "  two  spaces\n\n\nand lines\t\ttabs  ", "It's 12345 o'clock; we'll see 3.14159",
    "Grüße aus Köln! −3 °C, ½ und Ⅷ", "日本語のテキスト 🎉👩‍👩‍👧", "def f(x):\n    return x**2  # done\n",
    "<|im_start|>user\nWhat is 7*8?<|im_end|>\n<|im_start|>assistant\n", "a", " ", "\n", "</s><s>[INST] x",
]
LETTERS = "aAbZ '\"\n\t  .,!?-_()[]{}<>/\\\\|@#$%^&*+=~`0123456789éßñäÜçαβжЩאبحकजไ日本語한½²Ⅷ€™—…​🎉👩‍👧é"


def random_texts():
    """Four hundred short texts of letters of all sorts, the same every time."""
    draw = random.Random(0)
    return ["".join(draw.choice(LETTERS) for _ in range(draw.randint(1, 24))) for _ in range(400)]


LAYER = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}


def load(directory):
    """All tensors as f32."""
    found = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        with safe_open(path, "np") as file:
            for name in file.keys():
                try:
                    found[name] = file.get_tensor(name).astype(np.float32)
                except TypeError:  # numpy has no bf16
                    found = None
                    break
        if found is None:
            return load_bf16(directory)
    return found


def load_bf16(directory):
    """The same without a library, for bf16."""
    found = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8:8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            if entry["dtype"] == "BF16":
                bits = np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << 16
                values = bits.view(np.float32)
            else:
                kind = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
                values = np.frombuffer(raw[begin:end], kind).astype(np.float32)
            found[name] = values.reshape(entry["shape"])
    return found


def ours(name):
    """The name in safetensors."""
    fixed = {"token_embd.weight": "model.embed_tokens.weight",
             "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, module, part = name.split(".")
    return f"model.layers.{layer}.{LAYER[module]}.{part}"


def permute(weights, heads):
    """As `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py."""
    shape = weights.shape
    return (weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
            .swapaxes(1, 2).reshape(shape))


def expected(model, adapter):
    config = json.loads((Path(model) / "config.json").read_text())
    tensors = load(model)
    if adapter:
        settings = json.loads((Path(adapter) / "adapter_config.json").read_text())
        root = math.sqrt(settings["r"]) if settings["use_rslora"] else settings["r"]
        scale = settings["lora_alpha"] / root
        factors = load(adapter)
        for key in [key for key in factors if key.endswith(".lora_A.weight")]:
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight") + ".weight"
            a, b = factors[key], factors[key.replace("lora_A", "lora_B")]
            change = scale * (b.astype(np.float64) @ a.astype(np.float64))
            tensors[name] = (tensors[name].astype(np.float64) + change).astype(np.float32)
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    for name in list(tensors):
        if ".q_proj." in name or ".k_proj." in name:
            tensors[name] = permute(tensors[name], heads if ".q_proj." in name else groups)
    return config, tensors


def check_tensors(path, model, adapter=None):
    reader = gguf.GGUFReader(path)
    config, tensors = expected(model, adapter)
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    kinds, worst, count = {}, 0, 0
    for tensor in reader.tensors:
        kinds[tensor.tensor_type.name] = kinds.get(tensor.tensor_type.name, 0) + 1
        if tensor.name == "rope_freqs.weight":
            continue
        wanted = tensors.pop(ours(tensor.name))
        read = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(wanted.shape)
        again = gguf.quants.quantize(wanted, tensor.tensor_type)
        if adapter is None:
            same = np.array_equal(np.asarray(tensor.data).view(np.uint8).ravel(),
                                  np.ascontiguousarray(again).view(np.uint8).ravel())
            if not same:
                raise SystemExit(f"{tensor.name}: other bytes than gguf.quants.quantize writes")
        # With an adapter, sums of f64 come in another order: a last bit of f32 may be another.
        rounded = gguf.quants.dequantize(again, tensor.tensor_type).reshape(wanted.shape)
        differs = int((read != rounded).sum())
        worst = max(worst, differs / read.size)
        count += read.size
        step = np.abs(read - rounded).max() / max(np.abs(wanted).max(), 1e-30)
        if not step <= (0 if adapter is None else 2 ** -7):
            raise SystemExit(f"{tensor.name}: off by {step:.1e} of its largest number")
    if tensors:
        raise SystemExit(f"missing: {sorted(tensors)[:5]}")
    keys = {key: field.contents() for key, field in reader.fields.items()
            if key.startswith(("general.", "llama.", "firebrand.")) and "GGUF" not in key}
    print(f"{Path(path).name}: {kinds}, {count} numbers; "
          + ("the bytes of gguf.quants.quantize" if adapter is None
             else f"at most {worst:.1e} of a tensor's numbers differ in their last bit"))
    return keys


class LlamaCpp:
    """llama.cpp, with keys and values of the cache in f32."""

    def __init__(self, path, context=1024, adapter=None):
        import xllamacpp
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_gpu_layers, settings.n_parallel = context, 0, 1
        settings.warmup, settings.cpuparams.n_threads = False, 1
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if adapter:
            settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self.server = xllamacpp.Server(settings)
        self.rows = len(gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].data)

    def ask(self, what, **question):
        """An answer of its server."""
        request = urllib.request.Request(f"{self.server.listening_address}/{what}",
                                         json.dumps(question).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def write(self, tokens, count):
        """The most likely continuation, as text."""
        answer = self.server.handle_completions({
            "prompt": [int(token) for token in tokens], "n_predict": count, "temperature": 0,
            "cache_prompt": False})
        return answer["choices"][0]["text"]

    def logs(self, tokens):
        """Logarithms of the probabilities of what comes after each token: [tokens, vocabulary]"""
        return np.stack([self.logs_of_next(tokens[:end]) for end in range(1, len(tokens) + 1)])

    def logs_of_next(self, tokens):
        """The same of what comes after all of them: [vocabulary]"""
        row = np.full(self.rows, np.nan, np.float32)  # of what it does not tell
        answer = self.ask("completion", prompt=[int(token) for token in tokens], n_predict=1,
                          n_probs=self.rows, temperature=0, cache_prompt=False)
        for one in answer["completion_probabilities"][0]["top_logprobs"]:
            row[one["id"]] = one["logprob"]
        return row

    def tokens(self, text, begin=False):
        return self.ask("tokenize", content=text, add_special=begin, parse_special=True)["tokens"]


def documents(batch):
    """Token lists of a packed micro-batch, with their places in it."""
    rows, length = batch["rows"], batch["length"]
    for row in range(rows):
        begin = row * length
        while begin < (row + 1) * length and batch["documents"][begin] > 0:
            end = begin
            while (end < (row + 1) * length
                   and batch["documents"][end] == batch["documents"][begin]):
                end += 1
            yield batch["tokens"][begin:end], slice(begin, end)
            begin = end


def compare(model, pairs, what, limit):
    difference = largest = 0.0
    agree = count = 0
    for tokens, reference in pairs:
        theirs, reference = model.logs(tokens), reference.astype(np.float64)
        largest = float(np.maximum(largest, np.abs(reference).max()))  # NaN if one is
        top = reference.max(1, keepdims=True)
        reference = reference - top - np.log(np.exp(reference - top).sum(1, keepdims=True))
        difference = float(np.maximum(difference, np.abs(theirs - reference).max()))
        agree += int((theirs.argmax(1) == reference.argmax(1)).sum())
        count += len(tokens)
    ratio = difference / largest
    print(f"{what}: logits differ by {ratio:.1e} of the largest (limit {limit:.0e}), "
          f"same best token at {agree} of {count}")
    return ratio <= limit


def check_logits(path, out, batches):
    model = LlamaCpp(path)
    pairs = []
    with safe_open(out, "np") as file, open(batches, encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            batch = json.loads(line)
            logits = file.get_tensor(f"logits.{number}")
            logits = logits.reshape(-1, logits.shape[-1])
            pairs += [(tokens, logits[places]) for tokens, places in documents(batch)]
    limit = {"F32": 1e-5, "BF16": 3e-2, "F16": 5e-3, "Q8_0": 1e-1}
    kind = next((kind for kind in limit if Path(path).stem.endswith(f"-{kind}")), "Q8_0")
    return compare(model, pairs, Path(path).name, limit[kind])


def check_tokens(path, model):
    from tokenizers import Tokenizer
    theirs = LlamaCpp(path)
    exact = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    exact.no_truncation()
    wrong = 0
    texts = TEXTS + random_texts()
    for text in texts:
        wanted = exact.encode(text, add_special_tokens=False).ids
        found = theirs.tokens(text)
        if wanted != found:
            wrong += 1
            print(f"{text!r}: {wanted} but llama.cpp {found}")
    print(f"{Path(path).name}: {len(texts) - wrong} of {len(texts)} texts have the same tokens")
    return wrong == 0


def check_greedy(path, source, firebrand, prompts):
    model = LlamaCpp(path)
    same = True
    for prompt in prompts or ["The capital of France is", "Once upon a time"]:
        text = model.write(model.tokens(prompt, begin=True), 24)
        command = [firebrand, "generate", source, "--prompt", prompt, "--max-tokens", "24",
                   "--device", "cpu"]
        ours = subprocess.run(command, capture_output=True, text=True, check=True).stdout[:-1]
        same &= ours == text
        print(f"{prompt!r}: {'same' if ours == text else f'OURS {ours!r} THEIRS'} {text!r}")
    return same


def tiny_tokenizer(rows):
    """Letters of the byte alphabet; the last token ends a text."""
    letters = [chr(code) for code in range(0x21, 0x7F)][:rows - 1]
    vocab = {letter: number for number, letter in enumerate(letters)}
    return {"version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                              "use_regex": True},
            "post_processor": None, "decoder": None,
            "added_tokens": [{"id": rows - 1, "content": "<|end|>", "single_word": False,
                              "lstrip": False, "rstrip": False, "normalized": False,
                              "special": True}],
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "byte_fallback": False,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "ignore_merges": False, "vocab": vocab, "merges": []}}


def check_tiny(firebrand):
    fine = True
    for case in sorted(path for path in (HERE / "tiny").iterdir() if path.is_dir()):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            model.mkdir()
            for path in case.iterdir():
                if path.name.startswith("model") or path.name == "config.json":
                    (model / path.name).write_bytes(path.read_bytes())
            rows = json.loads((model / "config.json").read_text())["vocab_size"]
            (model / "tokenizer.json").write_text(json.dumps(tiny_tokenizer(rows)))
            (model / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
            with safe_open(case / "expected.safetensors", "np") as file:
                get = {name: file.get_tensor(name) for name in
                       ["tokens", "documents", "logits"]}
            shape = get["tokens"].shape
            batch = {"rows": shape[0], "length": shape[1], "tokens": get["tokens"].ravel().tolist(),
                     "documents": get["documents"].ravel().tolist()}
            logits = get["logits"].reshape(-1, rows)
            pairs = [(tokens, logits[places]) for tokens, places in documents(batch)]
            for kind, limit in [("f32", 1e-5), ("f16", 5e-3), ("bf16", 3e-2), ("q8_0", 1e-1)]:
                out = Path(folder) / kind
                subprocess.run([firebrand, "export", str(model), "--type", kind, "--no-sign",
                                "--out", str(out)], check=True, capture_output=True)
                path = next(out.glob("*.gguf"))
                check_tensors(path, model)
                fine &= compare(LlamaCpp(path), pairs, f"{case.name} {kind}", limit)
    return fine


def small_model(folder, tokenizer, rows):
    """A random model with this tokenizer."""
    from safetensors.numpy import save_file
    case = HERE / "tiny" / "gqa-tied"
    with safe_open(case / "model.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    numbers = np.random.default_rng(0)
    tensors["model.embed_tokens.weight"] = numbers.normal(size=(rows, 32)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((case / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": rows}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def pieces(folder, shuffled=False):
    """The vocabulary of a fixture with the merges that its conversion from SentencePiece has: all
    pairs of tokens whose union is a token, by the union's number; or in an order that no scores
    give, without a space before a text, as Gemma 3 and 4 have them."""
    file = json.loads((HERE.parent / "fixtures/tokenizer-spm/tokenizer.json").read_text())
    vocab = file["model"]["vocab"]
    added = {token["content"] for token in file["added_tokens"]}
    merges = []
    for text, number in vocab.items():
        if text in added or (text.startswith("<0x") and text.endswith(">")):
            continue
        cuts = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        cuts = [pair for pair in cuts if pair[0] in vocab and pair[1] in vocab]
        merges += [(number, vocab[a], vocab[b], a, b) for a, b in cuts]
    file["model"]["merges"] = [[a, b] for *_, a, b in sorted(merges)]
    if shuffled:
        random.Random(1).shuffle(file["model"]["merges"])
        mark = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        steps = [{**mark, "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
        file["normalizer"], file["decoder"] = mark, {"type": "Sequence", "decoders": steps}
        file["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "invert": False,
                                 "behavior": "MergedWithPrevious"}
    rows = max([*vocab.values(), *(token["id"] for token in file["added_tokens"])]) + 1
    small_model(folder, file, rows)
    end = next(name for name in ["</s>", *sorted(added)] if name in added)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))


def check_rules(firebrand, source):
    quotes = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
    others = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}

    def split(digits):
        rule = {"type": "Split", "pattern": {"Regex": quotes + digits + others},
                "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [rule, {**level, "use_regex": False}]}

    def pattern(rule):
        rule = {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [rule, {**level, "use_regex": False}]}

    marks = quotes.replace("\\p{L}+|", "[\\p{L}\\p{M}]+|") + "\\p{N}" + others.replace(
        "[^\\s\\p{L}", "[^\\s\\p{L}\\p{M}")
    before, large, small = "[^\\r\\n\\p{L}\\p{N}]?", "\\p{Lu}\\p{Lt}", "\\p{Ll}"
    both, after = "\\p{Lm}\\p{Lo}\\p{M}", others.replace("[\\r\\n]*", "[\\r\\n/]*")
    cased = [f"{before}[{large}{both}]{a}[{small}{both}]{b}" for a, b in ("*+", "+*")]
    endings = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    digits = {"type": "Digits", "individual_digits": True}
    gpt2 = {**level, "use_regex": True}
    rules = {"gpt-2": (gpt2, False),
             "smollm": ({"type": "Sequence", "pretokenizers": [digits, gpt2]}, False),
             "llama-bpe": (split("\\p{N}{1,3}"), True), "dbrx": (split("\\p{N}{1,3}"), False),
             "qwen2": (split("\\p{N}"), False), "qwen35": (pattern(marks), False),
             "gpt-4o": (pattern("".join(c + endings for c in cased) + "\\p{N}{1,3}" + after), False),
             "tekken": (pattern("".join(c + "|" for c in cased) + "\\p{N}" + after), True)}
    file = json.loads((Path(source) / "tokenizer.json").read_text())
    rows = json.loads((Path(source) / "config.json").read_text())["vocab_size"]
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        for name, (rule, whole) in rules.items():
            file["pre_tokenizer"], file["model"]["ignore_merges"] = rule, whole
            model = Path(folder) / name
            small_model(model, file, rows)
            copy = (Path(source) / "tokenizer_config.json").read_text()
            (model / "tokenizer_config.json").write_text(copy)
        pieces(Path(folder) / "pieces")
        pieces(Path(folder) / "gemma4", shuffled=True)
        for name in [*rules, "pieces", "gemma4"]:
            out = Path(folder) / f"{name}-out"
            subprocess.run([firebrand, "export", str(Path(folder) / name), "--no-sign",
                            "--out", str(out)], check=True,
                           stdout=subprocess.DEVNULL)
            path = next(out.glob("*.gguf"))
            written = gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents()
            if name != "pieces" and written != name:
                raise SystemExit(f"{name} was written as {written}")
            fine &= check_tokens(path, Path(folder) / name)
            fine &= check_unpacked(firebrand, path, Path(folder) / name)
    return fine


def unpacked_tokenizer(firebrand, path):
    """The tokenizer that Firebrand makes of a GGUF file."""
    from tokenizers import Tokenizer
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run([firebrand, "generate", str(path), "--prompt", "a", "--max-tokens", "1"],
                       check=True, capture_output=True, env=dict(os.environ, FIREBRAND_CACHE=cache))
        return Tokenizer.from_file(str(next(Path(cache).glob("gguf/*/tokenizer.json"))))


def check_unpacked(firebrand, path, folder):
    from tokenizers import Tokenizer
    ours, theirs = unpacked_tokenizer(firebrand, path), Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = TEXTS + random_texts()
    other = [text for text in texts if ours.encode(text).ids != theirs.encode(text).ids
             or ours.decode(ours.encode(text).ids) != theirs.decode(theirs.encode(text).ids)]
    print(f"{folder.name}: {len(texts)} texts as they were, from the GGUF file" if not other else
          f"{folder.name}: {len(other)} texts have other tokens from the GGUF file, first {other[0]!r}")
    return not other


def family_cases():
    """Stored cases, and models with what llama.cpp takes for granted in checkpoints."""
    import make_families
    slide, full = "sliding_attention", "full_attention"
    gemma = dict(head_dim=8, query_pre_attn_scalar=8, num_key_value_heads=1, sliding_window=5)
    yarn = make_families.rope("yarn", factor=4.0, original_max_position_embeddings=16)
    delta = dict(make_families.DELTA, head_dim=16, linear_key_head_dim=16, linear_value_head_dim=16,
                 rms_norm_eps=1e-3)
    more = {
        "gguf-gemma2": ("gemma2", dict(gemma, num_hidden_layers=4)),
        "gguf-gemma3": ("gemma3_text", dict(
            gemma, num_hidden_layers=7,
            rope_parameters=make_families.ropes(1e6, rope_type="linear", factor=8.0))),
        "gguf-gemma3-pattern": ("gemma3_text", dict(
            gemma, layer_types=[full, slide, full], rope_parameters=make_families.ropes(1e6))),
        "gguf-olmo3": ("olmo3", dict(
            num_hidden_layers=5, sliding_window=5, tie_word_embeddings=False,
            rope_parameters=make_families.ropes(
                5e5, 5e5, rope_type="yarn", factor=8.0, original_max_position_embeddings=12,
                beta_fast=32.0, beta_slow=1.0, attention_factor=1.2079441541679836))),
        "gguf-qwen2-yarn": ("qwen2", dict(tie_word_embeddings=True, **yarn)),
        "gguf-qwen3-yarn": ("qwen3", dict(head_dim=8, tie_word_embeddings=True, **yarn)),
        "gguf-qwen3-moe": ("qwen3_moe", dict(
            head_dim=8, moe_intermediate_size=16, tie_word_embeddings=False, num_experts=12,
            num_experts_per_tok=3, norm_topk_prob=True)),
        # Positions are stretched between planes 0 and 2, as llama.cpp rounds them anyway.
        "gguf-gpt-oss": ("gpt_oss", dict(
            make_families.GPT_OSS, num_hidden_layers=4, tie_word_embeddings=False,
            **make_families.rope("yarn", 104.0, factor=8.0, beta_fast=32.0, beta_slow=1.0,
                                 original_max_position_embeddings=64))),
        "gguf-gemma4-pattern": ("gemma4_text", dict(
            head_dim=8, global_head_dim=16, num_hidden_layers=8, sliding_window=5,
            hidden_size_per_layer_input=16, vocab_size_per_layer_input=80, num_kv_shared_layers=2,
            layer_types=[slide, full] * 4, rope_parameters=make_families.gemma4_ropes(0.25))),
        "gguf-gemma4-unified": ("gemma4_unified_text", dict(
            head_dim=8, global_head_dim=16, num_global_key_value_heads=1, attention_k_eq_v=True,
            sliding_window=5, layer_types=[slide, slide, full], final_logit_softcapping=30.0,
            rope_parameters=make_families.gemma4_ropes(0.25))),
        "gguf-granite-swa": ("granite_swa", dict(
            num_hidden_layers=4, sliding_window=4, layer_types=[full, slide, slide, full],
            layer_rope_theta=[0, 500.0, 500.0, 500.0], tie_word_embeddings=True, mlp_bias=True,
            attention_bias=True, embedding_multiplier=2.0, logits_scaling=2.0,
            residual_multiplier=0.5, attention_multiplier=0.3)),
        "gguf-qwen35": ("qwen3_5_text", dict(
            delta, num_hidden_layers=8, tie_word_embeddings=False,
            **make_families.rope("default", 1e7, partial_rotary_factor=0.25))),
        "gguf-qwen35-pattern": ("qwen3_5_text", dict(
            delta, tie_word_embeddings=True, layer_types=["linear_attention", full, "linear_attention"],
            linear_num_value_heads=2, **make_families.rope("default", partial_rotary_factor=0.5))),
        "gguf-qwen35-moe": ("qwen3_5_moe_text", dict(
            {**make_families.SHARED, **delta}, num_hidden_layers=4, tie_word_embeddings=False,
            **make_families.rope("default", 1e7, partial_rotary_factor=0.25))),
    }
    # The same within checkpoints that read images, too.
    images = make_families.CASES["qwen3.5-nested"][1]
    images = {key: images[key] for key in images if key not in ("text_config", "tie_word_embeddings")}
    positions = make_families.rope("default", partial_rotary_factor=0.5, mrope_section=[1, 1, 2],
                                   mrope_interleaved=True)
    text = dict(delta, tie_word_embeddings=True, **positions,
                layer_types=["linear_attention", full, "linear_attention"])
    more |= {
        "gguf-qwen35-nested": ("qwen3_5", dict(images, tie_word_embeddings=True, text_config=text)),
        "gguf-qwen35-moe-nested": ("qwen3_5_moe", dict(
            images, tie_word_embeddings=True, text_config={**make_families.SHARED, **text})),
    }
    make_families.CASES.update(more)
    stored = {file.stem: json.loads(file.read_text())
              for file in sorted((HERE / "families").glob("*.json"))}
    return {**stored, **dict.fromkeys(more)}


def save(case, made, folder):
    """A model as files have it: experts of some are in MXFP4."""
    import make_families
    from safetensors.torch import load_file, save_file
    made.save_pretrained(folder)  # with the names that files have
    if case not in make_families.IN_MXFP4:
        return
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name, tensor in tensors.items() if tensor.dim() == 3]:
        experts, inputs, outputs = tensors.pop(name).shape
        shape = (experts, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = make_families.codes(f"{name}_blocks", (*shape, 16), 0, 256)
        tensors[f"{name}_scales"] = make_families.codes(f"{name}_scales", shape, 121, 4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def check_mxfp4(case, path, model):
    """Numbers of experts, as ggml's package reads their blocks, against those of the model."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    same = count = 0
    for name, parameter in model.named_parameters():
        if parameter.dim() != 3:
            continue
        layer, matrix = name.split(".")[2], parameter.detach().transpose(1, 2).numpy()
        parts = {"ffn_gate_exps": matrix[:, ::2], "ffn_up_exps": matrix[:, 1::2]}
        parts = parts if name.endswith("gate_up_proj") else {"ffn_down_exps": matrix}
        for theirs, wanted in parts.items():
            tensor = tensors[f"blk.{layer}.{theirs}.weight"]
            assert tensor.tensor_type.name == "MXFP4", tensor.tensor_type
            found = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(wanted.shape)
            same, count = same + int((found == wanted).sum()), count + found.size
    print(f"{case}: {same} of {count} numbers of experts are those of transformers")
    return same == count


def check_families(firebrand, cases):
    """llama.cpp's most likely continuations against those that transformers wrote."""
    import make_families
    fine, compared = True, 0
    for case, known in family_cases().items():
        if cases and case not in cases:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model, out = Path(folder) / "model", Path(folder) / "out"
            model_in_memory = make_families.model_of(case)
            save(case, model_in_memory, model)
            if known is None:
                known = {"config": json.loads((model / "config.json").read_text()),
                         "generated": make_families.greedy(model_in_memory)}
            (model / "config.json").write_text(json.dumps(known["config"]))
            (model / "generation_config.json").unlink(missing_ok=True)
            text_config = known["config"].get("text_config", known["config"])
            rows = text_config["vocab_size"]
            (model / "tokenizer.json").write_text(json.dumps(tiny_tokenizer(rows)))
            (model / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
            made = subprocess.run([firebrand, "export", str(model), "--type", "f32", "--no-sign",
                                   "--out", str(out)], capture_output=True, text=True)
            if made.returncode != 0:
                print(f"{case}: refused: {made.stderr.strip().splitlines()[0]}")
                continue
            if "its logits differ a little" in made.stderr:
                print(f"{case}: written, with a warning that llama.cpp computes it otherwise")
                continue
            path = next(out.glob("*.gguf"))
            # Texts within the original context, and beyond it, are rotated as the length of the
            # context says there, whatever the length of the text is.
            scaling = text_config.get("rope_parameters", {})
            short = scaling.get("original_max_position_embeddings", 64)
            long_rope = scaling.get("rope_type") == "longrope"
            server = LlamaCpp(path, 64)
            # llama.cpp multiplies MXFP4 with activations in eight bits: numbers are compared.
            exact = case not in make_families.IN_MXFP4
            fine &= exact or check_mxfp4(case, path, model_in_memory)
            for made in known["generated"]:
                if long_rope and len(made["prompt"]) <= short:
                    continue
                wanted = made["continuation"]
                found = server.write(made["prompt"], len(wanted))
                count = str(len(wanted))
                wanted = wanted[:wanted.index(rows - 1)] if rows - 1 in wanted else wanted
                wanted = "".join(chr(0x21 + token) for token in wanted)
                if exact:
                    fine, compared = fine and found == wanted, compared + 1
                    print(f"{case}: {'same' if found == wanted else f'{wanted!r} but llama.cpp'} "
                          f"{found!r}")
                ours = subprocess.run(
                    [firebrand, "generate", str(path), "--device", "cpu", "--max-tokens", count,
                     "--prompt=" + "".join(chr(0x21 + token) for token in made["prompt"])],
                    capture_output=True, text=True,
                    env=dict(os.environ, FIREBRAND_CACHE=f"{folder}/cache"))
                if ours.returncode != 0 or ours.stdout.removesuffix("\n") != wanted:
                    fine = False
                    print(f"{case}: {wanted!r} but Firebrand from the GGUF file "
                          f"{ours.stdout!r} {ours.stderr[:600]}")
    print(f"{compared} texts compared")
    return fine and compared > 0


# Beside which llama.cpp has no place for an adapter.
NOT_ADDED_TO = {"per_layer_model_projection", "shared_expert_gate"}


def with_adapter(case, model, folder):
    """An adapter of PEFT that changes much: some ranks and scales are others, or there is a root of the rank."""
    import make_families
    import peft
    import torch
    torch.manual_seed(3)
    modules = [name for name in make_families.linears(case, model) if name not in NOT_ADDED_TO]
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=modules, init_lora_weights=False,
                               exclude_modules=make_families.others(model), use_rslora=len(case) % 2 == 0,
                               rank_pattern={"o_proj": 2}, alpha_pattern={"k_proj": 3})
    adapted = peft.get_peft_model(model, settings)
    adapted.save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(folder.parent / "model")}))


def check_lora(firebrand, cases):
    import make_families
    fine, compared, all_refused = True, 0, 0
    for case, known in family_cases().items():
        if cases and case not in cases:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model, adapter = Path(folder) / "model", Path(folder) / "adapter"
            made = make_families.model_of(case)
            save(case, made, model)
            config = known["config"] if known else json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps(config))
            (model / "generation_config.json").unlink(missing_ok=True)
            rows = config.get("text_config", config)["vocab_size"]
            with_adapter(case, made, adapter)
            for directory in [model, adapter]:
                (directory / "tokenizer.json").write_text(json.dumps(tiny_tokenizer(rows)))
                (directory / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
            paths, refused = {}, None
            for name, source, more in [("base", model, []), ("both", adapter, ["--base", str(model), "--no-check"]),
                                       ("lora", adapter, ["--base", str(model), "--no-check", "--format", "gguf-lora"])]:
                out = Path(folder) / name
                call = [firebrand, "export", str(source), "--type", "f32", "--no-sign", "--out", str(out), *more]
                done = subprocess.run(call, capture_output=True, text=True)
                if done.returncode != 0:
                    refused = refused or f"{name} refused: {' '.join(done.stderr.split())[:300]}"
                    continue
                paths[name] = next(out.glob("*.gguf"))
            if refused:
                print(f"{case}: {refused}")
                all_refused += 1
                continue
            tokens = [number % (rows - 1) for number in range(3, 15)]
            all_logs, texts = {}, {}
            for name, file, beside in [("base", "base", None), ("both", "both", None), ("beside", "base", "lora")]:
                server = LlamaCpp(paths[file], 64, paths.get(beside))
                all_logs[name], texts[name] = server.logs(tokens), server.write(tokens, 12)
            off, changed = (float(np.abs(all_logs[name] - all_logs["both"]).max()) for name in ["beside", "base"])
            same = texts["beside"] == texts["both"] and off < 1e-3 * changed
            fine, compared = fine and same, compared + 1
            print(f"{case}: {'same text' if texts['beside'] == texts['both'] else 'OTHER TEXT'}, logits off by "
                  f"{off:.1e}; the adapter changes them by {changed:.1e}{'' if same else ' DIFFERS'}")
    print(f"{compared} models compared, {all_refused} refused")
    return fine and compared > 0


def main():
    command, *rest = sys.argv[1:] or ["help"]
    if command == "tensors":
        print(json.dumps(check_tensors(*rest), indent=1, default=str))
        return 0
    if command == "families":
        return 0 if check_families(rest[0], rest[1:]) else 1
    if command == "lora":
        return 0 if check_lora(rest[0], rest[1:]) else 1
    if command == "greedy":
        return 0 if check_greedy(rest[0], rest[1], rest[2], rest[3:]) else 1
    checks = {"tokens": check_tokens, "logits": check_logits, "tiny": check_tiny, "rules": check_rules}
    if command not in checks:
        print(__doc__, file=sys.stderr)
        return 2
    return 0 if checks[command](*rest) else 1


if __name__ == "__main__":
    sys.exit(main())
