#!/usr/bin/env python3
"""What llama.cpp's own quantiser makes of numbers, and which types it gives to tensors: gguf_quantised.json.

    pip install gguf numpy; npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    export LLAMA_CPP=package/bins/linux-x64            # or any folder with libllama.so and those of ggml
    gguf_quantised.py
    gguf_quantised.py compare F32.gguf OTHER.gguf...   # files of one model that Firebrand wrote

Rows of many kinds are coded by `ggml_quantize_chunk`; small models of random numbers go through
`llama_model_quantize`. `compare` has llama.cpp quantise the first file to the type of each of the others: types and
bytes of all tensors must be those.
"""
import base64
import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

TYPES = ["Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
MIXTURES = {"Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}


class Settings(ctypes.Structure):
    """`llama_model_quantize_params`"""
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int), ("output_type", ctypes.c_int),
                ("embedding_type", ctypes.c_int), ("allow_requantize", ctypes.c_bool),
                ("quantize_output", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
                ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool), ("imatrix", ctypes.c_void_p),
                ("overrides", ctypes.c_void_p), ("tensor_types", ctypes.c_void_p), ("prune", ctypes.c_void_p),
                ("max_buffer", ctypes.c_size_t)]


def libraries():
    folder = Path(os.environ["LLAMA_CPP"]).resolve()
    found = lambda name: ctypes.CDLL(str(next(folder.glob(f"{name}*.so*"))), mode=ctypes.RTLD_GLOBAL)
    ggml, backends = found("libggml-base"), found("libggml.")
    llama = found("libllama.")
    backends.ggml_backend_load_all_from_path(str(folder).encode())
    llama.llama_model_quantize_default_params.restype = Settings
    llama.llama_log_set.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    llama.llama_log_set(ctypes.cast(QUIET, ctypes.c_void_p), None)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return ggml, llama


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def QUIET(level, text, _):
    if level >= 4:
        sys.stderr.write(text.decode())


GGML, LLAMA = libraries()


def coded(name, values):
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros(values.size // block * size, np.uint8)
    GGML.ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, 1, values.size, None)
    return out.tobytes()


def rows():
    """Without subnormal numbers: the inverse of their scale is infinite, of which C says nothing."""
    draw = np.random.default_rng(11)
    normal = draw.standard_normal(256)
    ramp = np.linspace(-1, 1, 256)
    lone = np.zeros(256)
    lone[77] = 3.0
    return {
        "normal": normal, "small": normal * 2e-3, "tiny": normal * 1e-9, "large": normal * 1e4,
        "heavy tails": draw.standard_t(2, 256) / 50, "uniform": draw.uniform(-1, 1, 256),
        "positive": np.abs(normal), "negative": -np.abs(normal), "shifted": normal * 0.01 + 5,
        "shifted down": normal * 1e-4 - 5, "zeros": np.zeros(256), "ones": np.ones(256),
        "minus ones": -np.ones(256), "one number": lone, "ramp": ramp, "steps": np.round(ramp * 8) / 8,
        "halves": np.where(np.arange(256) % 2, 0.5, -0.5), "parts": normal * np.repeat(10.0 ** np.arange(-4, 4), 32),
        "some parts zero": normal * np.repeat([1, 0, 0, 1, 0, 1, 1, 0], 32), "signs": np.sign(normal),
        "half zeros": normal * (np.arange(256) % 2), "alike": np.full(256, 0.1) + normal * 1e-8,
    }


# Name: architecture, layers, experts, heads of queries, of keys, tied, width.
MODELS = {
    "tied": ("llama", 9, 0, 4, 1, True, 256),
    "untied": ("llama", 16, 0, 4, 2, False, 256),
    "narrow": ("llama", 3, 0, 4, 1, True, 96),
    "70b": ("llama", 80, 0, 4, 1, False, 256),
    "65b": ("llama", 80, 0, 4, 4, False, 256),
    "qwen2 of 80 layers": ("qwen2", 80, 0, 4, 1, True, 256),
    "eight experts": ("qwen3moe", 9, 8, 4, 1, False, 256),
    "sixteen experts": ("qwen3moe", 10, 16, 4, 1, True, 256),
    "joined": ("phi3", 11, 0, 4, 4, True, 256),
}


def write(path, architecture, layers, experts, heads, kv_heads, tied, width):
    file = gguf.GGUFWriter(path, architecture)
    for key, number in {"block_count": layers, "embedding_length": width, "context_length": 64,
                        "feed_forward_length": width, "attention.head_count": heads,
                        "attention.head_count_kv": kv_heads, "vocab_size": 32, "attention.sliding_window": 0}.items():
        file.add_uint32(f"{architecture}.{key}", number)
    file.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    if experts:
        for key, number in {"expert_count": experts, "expert_used_count": 2,
                            "expert_feed_forward_length": width}.items():
            file.add_uint32(f"{architecture}.{key}", number)
    draw = np.random.default_rng(5)

    def put(name, *shape):
        file.add_tensor(name, draw.standard_normal(shape).astype(np.float32))
    put("token_embd.weight", 32, width)
    put("output_norm.weight", width)
    if not tied:
        put("output.weight", 32, width)
    head = width // heads
    for layer in range(layers):
        name = f"blk.{layer}."
        put(name + "attn_norm.weight", width)
        put(name + "ffn_norm.weight", width)
        if architecture == "phi3":
            put(name + "attn_qkv.weight", (heads + 2 * kv_heads) * head, width)
            put(name + "ffn_up.weight", 2 * width, width)
        else:
            put(name + "attn_q.weight", heads * head, width)
            put(name + "attn_k.weight", kv_heads * head, width)
            put(name + "attn_v.weight", kv_heads * head, width)
        put(name + "attn_output.weight", width, heads * head)
        if experts:
            put(name + "ffn_gate_inp.weight", experts, width)
            for part in ["gate", "up", "down"]:
                put(name + f"ffn_{part}_exps.weight", experts, width, width)
            continue
        if architecture != "phi3":
            put(name + "ffn_gate.weight", width, width)
            put(name + "ffn_up.weight", width, width)
        put(name + "ffn_down.weight", width, width)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def quantise(source, target, file_type):
    settings = LLAMA.llama_model_quantize_default_params()
    settings.nthread, settings.ftype = 2, file_type
    quantize = LLAMA.llama_model_quantize
    quantize.argtypes, quantize.restype = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Settings)], ctypes.c_uint32
    assert quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings)) == 0
    return {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}


def mixtures():
    found = {}
    for name, model in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "f32.gguf"
            write(source, *model)
            # Of every tensor of two dimensions, its types in the three mixtures.
            types = [quantise(source, Path(folder) / label, number) for label, number in MIXTURES.items()]
            tensors = {tensor: [one[tensor].tensor_type.name for one in types] for tensor in types[0]
                       if len(types[0][tensor].shape) > 1}
        architecture, layers, experts, heads, kv_heads, _, width = model
        groups = {}
        for tensor, kinds in tensors.items():
            groups.setdefault(" ".join(kinds), []).append(tensor)
        found[name] = {"architecture": architecture, "layers": layers, "experts": experts, "heads": [heads, kv_heads],
                       "width": width, "types": {kinds: " ".join(names) for kinds, names in groups.items()}}
    return found


def make():
    encode = lambda numbers: base64.b64encode(numbers).decode()
    all_rows = {}
    for name, values in rows().items():
        values = np.ascontiguousarray(values, np.float32)
        all_rows[name] = {"values": encode(values.tobytes()),
                          **{kind: encode(coded(kind, values)) for kind in TYPES}}
    path = Path(__file__).with_name("gguf_quantised.json")
    path.write_text(json.dumps({"rows": all_rows, "models": mixtures()}, indent=1) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def compare(source, others):
    fine = True
    for other in others:
        reader = gguf.GGUFReader(other)
        file_type = int(reader.fields["general.file_type"].contents())
        with tempfile.TemporaryDirectory() as folder:
            wanted = quantise(source, Path(folder) / "quantised.gguf", file_type)
            found = {tensor.name: tensor for tensor in reader.tensors}
            assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
            other_types = [f"{name}: {found[name].tensor_type.name}, there {of.tensor_type.name}"
                           for name, of in wanted.items() if of.tensor_type != found[name].tensor_type]
            other_bytes = [name for name, of in wanted.items() if not other_types
                           and of.data.tobytes() != found[name].data.tobytes()]
        fine &= not (other_types or other_bytes)
        for line in other_types + other_bytes:
            print(f"  {line}")
        print(f"{Path(other).name}: {len(wanted)} tensors, {len(other_types)} of another type, {len(other_bytes)} with "
              "other bytes than llama.cpp's")
    return fine


if __name__ == "__main__":
    if sys.argv[1:2] == ["compare"]:
        sys.exit(0 if compare(sys.argv[2], sys.argv[3:]) else 1)
    make()
