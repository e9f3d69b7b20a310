"""Llamas of random weights in the shapes of known ones, written a few rows at a time. Needs numpy alone."""

import json
import math
import pathlib
import struct

import numpy

HERE = pathlib.Path(__file__).parent
SHAPES = {
    "small": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "vocab_size": 2048, "tie_word_embeddings": True},
    # Most of it is the embedding.
    "tied": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 8,
             "num_key_value_heads": 4, "vocab_size": 32768, "tie_word_embeddings": True},
    # 0.2 billion numbers, so that a step takes seconds.
    "middle": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16,
               "num_key_value_heads": 8, "vocab_size": 32768, "tie_word_embeddings": False},
    "llama-3.2-1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
                     "tie_word_embeddings": True},
    "llama-3.1-8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
                     "tie_word_embeddings": False},
}
# Numbers and bytes of a block, and where its scales are.
BLOCKS = {"Q8_0": (32, 34, [0]), "Q4_0": (32, 18, [0]), "Q5_0": (32, 22, [0]), "Q4_K": (256, 144, [0, 2]),
          "Q5_K": (256, 176, [0, 2]), "Q6_K": (256, 210, [208])}


def shapes(shape):
    """Names and dimensions of all tensors, vectors first: blocks have no alignment."""
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    tensors = {"model.embed_tokens.weight": [shape["vocab_size"], hidden], "model.norm.weight": [hidden]}
    if not shape["tie_word_embeddings"]:
        tensors["lm_head.weight"] = [shape["vocab_size"], hidden]
    for layer in range(shape["num_hidden_layers"]):
        for name, dims in {
            "self_attn.q_proj": [hidden, hidden], "self_attn.k_proj": [keys, hidden],
            "self_attn.v_proj": [keys, hidden], "self_attn.o_proj": [hidden, hidden],
            "mlp.gate_proj": [wide, hidden], "mlp.up_proj": [wide, hidden], "mlp.down_proj": [hidden, wide],
            "input_layernorm": [hidden], "post_attention_layernorm": [hidden],
        }.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = dims
    return sorted(tensors.items(), key=lambda item: len(item[1]))


def blocks(chance, kind, count):
    """Random codes with small scales."""
    _, size, scales = BLOCKS[kind]
    made = chance.integers(0, 256, (count, size), dtype=numpy.uint8)
    for at in scales:
        made[:, at:at + 2] = [0x11, 0x04]
    return made


def rows(chance, dims, kind, blocked):
    """Some rows after the others, as they are in the file."""
    for first in range(0, dims[0], 1024):
        count = min(1024, dims[0] - first)
        if len(dims) == 1:
            yield numpy.ones(count, "<f4") if blocked else numpy.full(count, 0x3F80, "<u2")
        elif kind:
            yield blocks(chance, kind, count * dims[1] // BLOCKS[kind][0])
        else:
            values = chance.standard_normal((count, dims[1]), dtype=numpy.float32) * 0.02
            yield (values.view(numpy.uint32) >> 16).astype("<u2")


def write(folder, shape, kind=None):
    """The model in bfloat16, or its matrices in blocks of a GGUF file as they are unpacked in the cache: with Q4_K the
    embedding is in Q6_K, as in files of that kind."""
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope_theta": 500000.0,
              "rms_norm_eps": 1e-5, "dtype": "float32" if kind else "bfloat16", "max_position_embeddings": 8192, "bos_token_id": 1,
              "eos_token_id": 2} | shape
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((HERE.parent / "configs" / "base-tiny" / name).read_bytes())
    types = {}
    for name, dims in shapes(shape):
        if kind and len(dims) == 2:
            types[name] = "Q6_K" if kind == "Q4_K" and name in ("model.embed_tokens.weight", "lm_head.weight") else kind
    header, begin = {}, 0
    if types:
        header["__metadata__"] = {"firebrand.blocks": json.dumps(types)}
    for name, dims in shapes(shape):
        element, in_file, size = ("F32", dims, 4) if kind else ("BF16", dims, 2)
        if name in types:
            count, bytes_of_block, _ = BLOCKS[types[name]]
            element, in_file, size = "U8", [dims[0], dims[1] // count * bytes_of_block], 1
        end = begin + size * math.prod(in_file)
        header[name] = {"dtype": element, "shape": in_file, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    chance = numpy.random.default_rng(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dims in shapes(shape):
            for part in rows(chance, dims, types.get(name), bool(kind)):
                file.write(part.tobytes())
