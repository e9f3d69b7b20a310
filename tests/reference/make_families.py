#!/usr/bin/env python3
"""What transformers, PEFT and PyTorch compute with tiny models of each family, in `families/`.

    python make_families.py [CASE...]    # all cases without arguments; same bytes every time

Weights are not stored: both sides make them of the name of a tensor and the place of a number in it
(`numbers`). Of what is computed a sample is stored, its largest number, and sums with random signs,
in which every number has a part.
"""
import copy
import json
import random
import re
import sys
from pathlib import Path

import numpy
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from reference import LINEARS, Batch, logits_unpacked, nll_sum, peft_key

HERE = Path(__file__).resolve().parent
VOCABULARY, LENGTH, SAMPLE, WRITTEN = 80, 24, 24, 12
LORA = {"r": 3, "lora_alpha": 6}
COMMON = dict(
    vocab_size=VOCABULARY, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6,
    bos_token_id=None, eos_token_id=None, pad_token_id=None,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
CASES = {}
# Parameters that adapters of mixtures of experts stand beside, as `target_parameters`.
PARAMETERS = {}
# Cases whose experts are in files as gpt-oss was published.
IN_MXFP4 = {"gpt-oss-mxfp4"}
# Options that have defaults which null turns off.
NULLS = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
# The same of families whose token for padding is one of the vocabulary here.
NO_PADDING = ("ministral3",)
# Modules of checkpoints that read images, too; what Firebrand writes into adapters of them.
OTHERS = {
    "gemma4": "vision_tower|audio_tower|embed_vision|embed_audio",
    "gemma4_unified": "vision_embedder|embed_vision|embed_audio",
    "qwen3_5": "visual|mtp",
    "qwen3_5_moe": "visual|mtp",
}
# What separate matrices of experts are called in files, beside each other in transformers.
SEPARATE = {
    "qwen3_moe": {"gate_up_proj": ["gate_proj", "up_proj"], "down_proj": ["down_proj"]},
    "lfm2_moe": {"gate_up_proj": ["w1", "w3"], "down_proj": ["w2"]},
}
# Rows of more than two chunks of 64 tokens, of which recurrent states are handed on.
LENGTHS = {"qwen3.5-long": 150}


def numbers(name, shape):
    """Uniform in ±0.35, about 1 for the gains of norms: splitmix64 of the name's FNV-1a."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    count = int(numpy.prod(shape))
    with numpy.errstate(over="ignore"):
        x = numpy.uint64(seed) + (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * \
            numpy.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x ^= x >> numpy.uint64(31)
    uniform = (x >> numpy.uint64(40)).astype(numpy.float64) / 2**24 * 2 - 1
    is_gain = "norm" in name or name.endswith(("layer_scalar", "scale"))
    values = 1 + 0.2 * uniform if is_gain else 0.35 * uniform
    return torch.tensor(values.astype(numpy.float32)).reshape(tuple(shape))


def alternating(tensor, dim):
    """Halves along a dimension as gpt-oss has gate and up: a number of one, then of the other."""
    half = tensor.shape[dim] // 2
    first, second = tensor.narrow(dim, 0, half), tensor.narrow(dim, half, half)
    return torch.stack([first, second], dim + 1).flatten(dim, dim + 1)


def whole(tensor, dim):
    """The other way round."""
    even, odd = (tensor.unfold(dim, 2, 2).select(-1, i) for i in range(2))
    return torch.cat([even, odd], dim)


def experts_of(case):
    options = CASES[case][1]
    options = options.get("text_config", options)
    return options.get("num_experts") or options.get("num_local_experts")


def expert_parts(case, name, tensor):
    """What Firebrand has for each expert of a parameter that has all, by name; itself otherwise.
    Gate and up come one after the other in its matrices `[out, in]`."""
    count, stacked = experts_of(case), ".experts" in name
    if not (count and stacked):
        return {name: tensor}
    swapped = CASES[case][0] == "gpt_oss"
    module, leaf = name.split(".experts")
    both = {"gate_up_proj", "down_proj"} <= {n.split(".")[-1] for n in PARAMETERS[case]}
    if "lora_" in leaf:
        matrix = ("gate_up_proj" if ".base_layer" in leaf else "down_proj") if both else \
            [n.split(".")[-1] for n in PARAMETERS[case] if "experts" in n][0]
        part = leaf[leaf.index("lora_"):]
        if "lora_A" in leaf:
            parts = tensor.reshape(count, -1, tensor.shape[-1])
        else:
            parts = tensor.reshape(tensor.shape[0], -1, count).permute(2, 0, 1)
            if swapped and matrix == "gate_up_proj":
                parts = whole(parts, 1)
    else:
        matrix, part = leaf[1:].removesuffix("_bias"), "bias" if leaf.endswith("bias") else "weight"
        parts = tensor.transpose(1, 2) if swapped and part == "weight" else tensor
        if swapped and matrix == "gate_up_proj":
            parts = whole(parts, 1)
    return {f"{module}.experts.{e}.{matrix}.{part}": parts[e] for e in range(count)}


def factors(case, name, shape):
    """The numbers of a parameter of an adapter."""
    parts = expert_parts(case, name, torch.zeros(shape))
    if name in parts:
        return 0.5 * numbers(name, shape)
    made = torch.stack([0.5 * numbers(n, part.shape) for n, part in parts.items()])
    if "lora_A" in name:
        return made.reshape(shape)
    if CASES[case][0] == "gpt_oss" and "gate_up_proj" in next(iter(parts)):
        made = alternating(made, 1)
    return made.permute(1, 2, 0).reshape(shape)


def codes(name, shape, least, count):
    """Bytes from `least` on, of `count` different ones."""
    uniform = numbers(name, shape).double() / 0.7 + 0.5
    return (least + (uniform * count).floor().clamp(0, count - 1)).to(torch.uint8)


def weights(case, name, shape):
    """The numbers of a parameter, of the names that tensors have in files."""
    if case in IN_MXFP4 and len(shape) == 3:
        of_scales = (shape[0], shape[2], shape[1] // 32)
        blocks = codes(f"{name}_blocks", (*of_scales, 16), 0, 256)
        scales = codes(f"{name}_scales", of_scales, 121, 4)
        return convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    separate = SEPARATE.get(CASES[case][0])
    if not separate or ".experts." not in name:
        return numbers(name, shape)
    module, matrix = name.rsplit(".", 1)
    names = separate[matrix]
    rows = shape[1] // len(names)
    return torch.stack([
        torch.cat([numbers(f"{module}.{e}.{n}.weight", (rows, shape[2])) for n in names])
        for e in range(shape[0])])


def model_of(case):
    family, options = CASES[case]
    options = copy.deepcopy(options)  # configurations change what they are given
    if "vision_config" in options:
        options = {**options, "text_config": {**copy.deepcopy(COMMON), **options["text_config"]}}
    else:
        options = {**copy.deepcopy(COMMON), **options}
    config = AutoConfig.for_model(family, **options)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    config.get_text_config()._experts_implementation = "eager"
    # In the format of the configuration first: scales of embeddings are rounded to it.
    nested = "vision_config" in CASES[case][1]
    of_kind = AutoModelForImageTextToText if nested else AutoModelForCausalLM
    model = of_kind.from_config(config, dtype=config.dtype).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights(case, name, parameter.shape))
        for name, buffer in model.named_buffers():
            if name.endswith(("layer_scalar", "expert_bias")):
                buffer.copy_(numbers(name, buffer.shape))
    model.tie_weights()
    return model.eval()


def make_batch(length):
    """Row 0: one document; row 1: two, and padding (of 24 positions: 24; 9, 11 and 4)."""
    chance = random.Random(11)
    one, other = length * 3 // 8, length * 11 // 24
    rest = length - one - other
    documents = [1] * length + [1] * one + [2] * other + [0] * rest
    positions = [*range(length), *range(one), *range(other)] + [0] * rest
    tokens = [chance.randrange(3, VOCABULARY) if d else 0 for d in documents]
    inside = [i for i in range(len(tokens) - 1)
              if (i + 1) % length and documents[i] and documents[i] == documents[i + 1]]
    chosen = sorted(chance.sample(inside, round(0.6 * len(inside))))
    return Batch(2, length, tokens, positions, documents, [(i, tokens[i + 1]) for i in chosen])


def windowed(batch, mask, window):
    place = torch.arange(batch.length)
    far = place[:, None] - place[None, :] >= window
    return mask.masked_fill(far[None, None], torch.finfo(mask.dtype).min)


def logits_of(model, batch):
    """Logits of a packed batch; masks per kind of layer where the model has several. Where the
    frequencies of a document depend on its length, documents have them that they have alone; where
    layers are recurrent, they are alone, since the reference hands states on over their borders."""
    config = model.config.get_text_config()
    recurrent = {"linear_attention", "conv"} & set(getattr(config, "layer_types", None) or [])
    if config.rope_parameters.get("rope_type") in ("dynamic", "longrope") or recurrent:
        return logits_unpacked(model, batch)
    full = batch.mask(model.dtype)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    mask = windowed(batch, full, window) if window else full
    if kinds:
        mask = {"full_attention": full, "sliding_attention": mask}
    return model(input_ids=batch.tokens, position_ids=batch.positions, attention_mask=mask,
                 use_cache=False).logits


def short(values):
    return [float("%.8g" % value) for value in values]


def sampled(name, tensor):
    """The largest number, sums with signs, and a sample at places spread over the tensor."""
    flat = tensor.detach().double().flatten()
    count = len(flat)
    signs = [torch.sign(numbers(f"{name} sign {i}", [count]).double()) for i in range(2)]
    places = [i * count // min(SAMPLE, count) for i in range(min(SAMPLE, count))]
    return {"count": count, "largest": short([flat.abs().max()])[0], "norm": short([flat.norm()])[0],
            "sums": short([(flat * s).sum() for s in signs]), "sample": short(flat[places])}


def gradients(model, batch):
    model.zero_grad()
    logits = logits_of(model, batch)
    loss = nll_sum(logits, batch) / len(batch.index)
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), loss.item(), found


def check_packing(model, batch, logits):
    """Packed rows must equal each document run alone by the family's own masks."""
    real = batch.documents > 0
    with torch.no_grad():
        alone = logits_unpacked(model, batch)
    torch.testing.assert_close(logits[real], alone[real], rtol=2e-5, atol=2e-5)


def forget_lengths(model):
    """Frequencies of the kind `dynamic` stay those of the longest text so far until a short one."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq.copy_(module.original_inv_freq)


def greedy(model):
    """Argmax continuations whose winners lead clearly, with the family's own cache."""
    chance, made = random.Random(5), []
    clear = 0.01 / getattr(model.config, "logits_scaling", 1.0)
    for length in (1, 4, 13):
        for _ in range(200):
            prompt = [chance.randrange(3, VOCABULARY) for _ in range(length)]
            tokens, lead = list(prompt), float("inf")
            with torch.no_grad():
                for _ in range(WRITTEN):
                    forget_lengths(model)
                    top = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
                    lead = min(lead, (top.values[0] - top.values[1]).item())
                    tokens.append(int(top.indices[0]))
            if lead > clear and len(set(tokens[length:])) > 2:
                break
        else:
            raise SystemExit("no clear continuation")
        made.append({"prompt": prompt, "continuation": tokens[length:]})
    return made


def check_choices(model, batch):
    """Experts must be chosen clearly: nearly equal scores may be ordered otherwise elsewhere."""
    routers = [m for m in model.modules() if type(m).__name__.endswith("Router")]
    scores = []

    def keep(module, given, out):
        found, bias = out[0], given[1] if len(given) > 1 else None
        if getattr(module, "use_expert_bias", False):
            found = found.sigmoid() + bias
        if type(module).__name__ == "Gemma4TextRouter":
            found = found.log()  # it gives probabilities
        scores.append((out[2].shape[-1], found))
    hooks = [m.register_forward_hook(keep) for m in routers]
    with torch.no_grad():
        logits_of(model, batch)
    for hook in hooks:
        hook.remove()
    for top_k, found in scores:
        if top_k == found.shape[-1]:
            continue
        real = batch.documents.flatten() > 0
        best = found[real] if len(found) == len(real) else found  # documents alone have no padding
        best = best.sort(-1, descending=True).values
        lead = (best[:, top_k - 1] - best[:, top_k]).min().item()
        assert lead > 1e-4, f"experts are chosen by {lead}"


def linears(case, model):
    """All linear layers of the decoder, as `target_modules` name them."""
    family = CASES[case][0]
    if family in ("qwen3_moe", "gpt_oss"):
        return LINEARS[:4]
    if family.startswith("qwen3_5_moe"):
        return LINEARS + ["shared_expert_gate", "in_proj_qkv", "in_proj_z", "in_proj_b",
                          "in_proj_a", "out_proj"]
    if family.startswith("gemma4") and experts_of(case):
        return LINEARS + ["proj"] + ["per_layer_input_gate", "per_layer_projection",
                                     "per_layer_model_projection"] * (family == "gemma4")
    if family == "lfm2_moe":
        mlp = ["w1", "w2", "w3"] * (CASES[case][1].get("num_dense_layers") != 0)
        return ["q_proj", "k_proj", "v_proj", "out_proj", "in_proj"] + mlp
    other = others(model)
    names = [name for name, module in model.named_modules()
             if isinstance(module, torch.nn.Linear) and not (other and re.fullmatch(other, name))]
    return sorted({name.split(".")[-1] for name in names} - {"lm_head"})


def others(model):
    """Modules in which no adapter stands."""
    if not hasattr(model.config, "vision_config"):
        return None
    names = OTHERS.get(model.config.model_type, "vision_tower|multi_modal_projector")
    return rf"(.*\.)?({names})\..*"


def make_case(case):
    model, batch = model_of(case), make_batch(LENGTHS.get(case, LENGTH))
    config = json.loads(model.config.to_json_string(use_diff=False))
    config = {k: v for k, v in config.items() if v is not None or k in NULLS or
              k == "pad_token_id" and config["model_type"] in NO_PADDING}
    if case in IN_MXFP4:
        config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
            "lm_head"]}
    logits, loss, full = gradients(model, batch)
    check_packing(model, batch, logits)
    real = (batch.documents > 0)
    generated = greedy(model)
    expected = {"logits": sampled("logits", logits[real]), "loss": short([loss])[0],
                "full": {n: sampled(n, g) for name, grad in sorted(full.items())
                         for n, g in expert_parts(case, name, grad).items()}}
    if case in IN_MXFP4:
        expected["full"] = {}  # what is in four bits is not trained
    check_choices(model, batch)
    adapted = get_peft_model(model_of(case), LoraConfig(
        task_type="CAUSAL_LM", target_modules=linears(case, model), lora_dropout=0.0,
        target_parameters=PARAMETERS.get(case), exclude_modules=others(model),
        **LORA)).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(factors(case, peft_key(name), parameter.shape))
    check_choices(adapted, batch)
    logits, loss, found = gradients(adapted, batch)
    expected |= {"lora_logits": sampled("logits", logits[real]), "lora_loss": short([loss])[0],
                 "lora": {n: sampled(n, g) for name, grad in sorted(found.items())
                          for n, g in expert_parts(case, peft_key(name), grad).items()}}
    value = {"config": config, "expected": expected, "generated": generated, "batch": {
        "tokens": batch.tokens.flatten().tolist(), "positions": batch.positions.flatten().tolist(),
        "documents": batch.documents.flatten().tolist(),
        "targets": [[int(i), int(t)] for i, t in zip(batch.index, batch.token)]}}
    if experts_of(case):
        value["lora"] = {"target_modules": linears(case, model), "target_parameters": PARAMETERS[case]}
    path = HERE / "families" / f"{case}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    print(f"{case:16} loss {loss:.4f}, logits' deviation {logits.std():.2f}, "
          f"{path.stat().st_size // 1024} KiB")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    for case in CASES:
        if len(sys.argv) == 1 or case in sys.argv[1:]:
            make_case(case)


SLIDING, FULL = "sliding_attention", "full_attention"


def ropes(full, sliding=10000.0, **scaling):
    """A rotation for each kind of layer, that of layers without a window scaled."""
    return {FULL: {"rope_type": "default", "rope_theta": full, **scaling},
            SLIDING: {"rope_type": "default", "rope_theta": sliding}}



def rope(kind, theta=10000.0, **options):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **options}}


VISION = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
              image_size=8, patch_size=4, head_dim=8)
# Of a head of 8, of which 6 are rotated.
FACTORS = {"short_factor": [1.0, 1.05, 1.3], "long_factor": [1.1, 3.5, 6.0]}
MINISTRAL = dict(head_dim=8, **rope(
    "yarn", factor=4.0, original_max_position_embeddings=8, beta_fast=32.0, beta_slow=1.0,
    mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1))

CASES |= {
    "gemma2": ("gemma2", dict(
        head_dim=8, query_pre_attn_scalar=12, num_key_value_heads=1, sliding_window=5,
        dtype="bfloat16")),
    "gemma2-capped": ("gemma2", dict(
        head_dim=8, query_pre_attn_scalar=2, sliding_window=4, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0, layer_types=[FULL, SLIDING, FULL])),
    "gemma2-bare": ("gemma2", dict(
        head_dim=10, query_pre_attn_scalar=10, sliding_window=4, attn_logit_softcapping=None,
        final_logit_softcapping=None, attention_bias=True, tie_word_embeddings=False)),
    "gemma3-tied": ("gemma3_text", dict(
        head_dim=8, query_pre_attn_scalar=8, num_key_value_heads=1, sliding_window=5,
        layer_types=[SLIDING, SLIDING, FULL], rope_parameters=ropes(1e6))),
    "gemma3-linear": ("gemma3_text", dict(
        head_dim=6, query_pre_attn_scalar=11, sliding_window=4, sliding_window_pattern=2,
        dtype="bfloat16", rope_parameters=ropes(1e6, rope_type="linear", factor=8.0))),
    "gemma3-nested": ("gemma3", dict(
        text_config=dict(
            head_dim=8, query_pre_attn_scalar=8, sliding_window=5,
            layer_types=[SLIDING, SLIDING, FULL],
            rope_parameters=ropes(1e6, rope_type="linear", factor=8.0)),
        vision_config=dict(
            model_type="siglip_vision_model", hidden_size=8, intermediate_size=16,
            num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4),
        mm_tokens_per_image=4, image_token_index=77, boi_token_index=78, eoi_token_index=79)),
    "gemma3-capped": ("gemma3_text", dict(
        head_dim=8, query_pre_attn_scalar=4, sliding_window=6, attention_bias=True,
        final_logit_softcapping=3.0, tie_word_embeddings=False, layer_types=[FULL, SLIDING, FULL],
        rope_parameters=ropes(1e6))),
    "olmo2": ("olmo2", dict(num_key_value_heads=4, tie_word_embeddings=False)),
    "olmo2-grouped": ("olmo2", dict(
        attention_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-5)),
    "olmo3-yarn": ("olmo3", dict(
        sliding_window=5, layer_types=[SLIDING, FULL, SLIDING], head_dim=8, rope_parameters=ropes(
            5e5, 5e5, rope_type="yarn", factor=8.0, original_max_position_embeddings=12,
            beta_fast=32.0, beta_slow=1.0, attention_factor=1.2079441541679836))),
    "olmo3": ("olmo3", dict(
        num_key_value_heads=4, sliding_window=5, tie_word_embeddings=False, rms_norm_eps=1e-5,
        layer_types=[SLIDING, FULL, SLIDING], rope_parameters=ropes(5e5, 5e5))),
    "qwen3-tied": ("qwen3", dict(head_dim=8, tie_word_embeddings=True)),
    "qwen3-window": ("qwen3", dict(
        head_dim=10, tie_word_embeddings=False, attention_bias=True, use_sliding_window=True,
        sliding_window=5, max_window_layers=1)),
    "mistral": ("mistral", dict(sliding_window=None, tie_word_embeddings=False)),
    "mistral-window": ("mistral", dict(
        sliding_window=6, head_dim=8, num_key_value_heads=1, tie_word_embeddings=False)),
    "qwen2-tied": ("qwen2", dict(tie_word_embeddings=True)),
    # A row that lookups do not train, of a token that stands in rows; below zero from the last.
    "qwen2-padding": ("qwen2", dict(tie_word_embeddings=False, pad_token_id=-20)),
    "llama-padding": ("llama", dict(tie_word_embeddings=True, pad_token_id=60)),
    "qwen2-window": ("qwen2", dict(
        tie_word_embeddings=False, use_sliding_window=True, sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
}
GRANITE4 = dict(layer_types=["full_attention"] * 3, num_local_experts=0, num_experts_per_tok=0,
                shared_intermediate_size=36, mamba_n_heads=4)
CASES |= {
    "llama-biases": ("llama", dict(
        attention_bias=True, mlp_bias=True, head_dim=10, **rope("linear", factor=2.5))),
    "llama-llama3": ("llama", dict(tie_word_embeddings=True, head_dim=8, **rope(
        "llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32))),
    "llama-dynamic": ("llama", dict(
        head_dim=8, max_position_embeddings=10, **rope("dynamic", factor=3.0))),
    "llama-yarn": ("llama", dict(head_dim=16, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16))),
    "llama-yarn-mscale": ("llama", dict(head_dim=16, **rope(
        "yarn", 150000.0, factor=32.0, original_max_position_embeddings=12, beta_fast=8.0,
        beta_slow=0.5, mscale=0.7, mscale_all_dim=1.0, truncate=False))),
    "llama-yarn-factor": ("llama", dict(head_dim=16, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16, attention_factor=0.8))),
    "llama-longrope": ("llama", dict(head_dim=6, **rope(
        "longrope", original_max_position_embeddings=10, **FACTORS))),
    "smollm3": ("smollm3", dict(no_rope_layer_interval=2, **rope("default", 5000000.0))),
    "smollm3-four": ("smollm3", dict(num_hidden_layers=4)),
    "smollm3-window": ("smollm3", dict(
        # The gradient of a bias of keys that positions do not turn would be zero.
        no_rope_layers=[0, 1, 0], mlp_bias=True, use_sliding_window=True,
        sliding_window=5, tie_word_embeddings=False, **rope("linear", factor=2.0))),
    "granite": ("granite", dict(
        tie_word_embeddings=True, embedding_multiplier=0.5, logits_scaling=4.0,
        residual_multiplier=0.7, attention_multiplier=0.125)),
    "granite-biases": ("granite", dict(
        attention_bias=True, mlp_bias=True, embedding_multiplier=3.0, logits_scaling=2.0,
        residual_multiplier=0.5, attention_multiplier=0.2)),
    "granite-swa": ("granite_swa", dict(
        sliding_window=4, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        layer_rope_theta=[0, 10000.0, 500.0], embedding_multiplier=2.0, logits_scaling=2.0,
        residual_multiplier=0.5, attention_multiplier=0.3)),
    # The dense ones of Granite 4: every layer attends, and there is no expert beside the shared MLP.
    "granite-hybrid": ("granitemoehybrid", dict(
        GRANITE4, tie_word_embeddings=True, position_embedding_type="rope", rms_norm_eps=1e-5,
        embedding_multiplier=0.5, logits_scaling=4.0, residual_multiplier=0.7,
        attention_multiplier=0.125)),
    "granite-hybrid-nope": ("granitemoehybrid", dict(
        GRANITE4, tie_word_embeddings=False, position_embedding_type="nope", head_dim=8,
        num_key_value_heads=1, embedding_multiplier=3.0, logits_scaling=2.0,
        residual_multiplier=0.5, attention_multiplier=0.2)),
    "phi3": ("phi3", dict(tie_word_embeddings=False, sliding_window=None)),
    "phi3-window": ("phi3", dict(
        num_key_value_heads=4, sliding_window=6, **rope("default", partial_rotary_factor=0.75))),
    "phi3-longrope": ("phi3", dict(
        hidden_size=32, tie_word_embeddings=True, original_max_position_embeddings=10,
        max_position_embeddings=80, sliding_window=None,
        **rope("longrope", partial_rotary_factor=0.75, **FACTORS))),
    "ministral3": ("ministral3", dict(tie_word_embeddings=True, **MINISTRAL)),
    "ministral3-window": ("ministral3", dict(sliding_window=5, **MINISTRAL)),
    "mistral3-ministral3": ("mistral3", dict(tie_word_embeddings=False, vision_config=VISION,
        text_config=dict(model_type="ministral3", **MINISTRAL))),
    "mistral3-mistral": ("mistral3", dict(tie_word_embeddings=True, vision_config=VISION,
        text_config=dict(model_type="mistral", head_dim=8, sliding_window=None))),
}
GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
QWEN3_MOE = dict(head_dim=8, moe_intermediate_size=16, tie_word_embeddings=False)
GPT_OSS = dict(head_dim=8, intermediate_size=20, sliding_window=5, num_local_experts=4,
               num_experts_per_tok=2, rms_norm_eps=1e-5)
CASES |= {
    "qwen3-moe": ("qwen3_moe", dict(
        num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, **QWEN3_MOE)),
    "qwen3-moe-mixed": ("qwen3_moe", dict(
        QWEN3_MOE, num_experts=6, num_experts_per_tok=3, norm_topk_prob=False, attention_bias=True,
        mlp_only_layers=[1], use_sliding_window=True, sliding_window=5, tie_word_embeddings=True)),
    "qwen3-moe-step": ("qwen3_moe", dict(
        num_experts=14, num_experts_per_tok=1, norm_topk_prob=False, decoder_sparse_step=2,
        **QWEN3_MOE)),
    "gpt-oss": ("gpt_oss", dict(GPT_OSS, **rope(
        "yarn", 150000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
        original_max_position_embeddings=8))),
    "gpt-oss-mxfp4": ("gpt_oss", dict(
        GPT_OSS, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        layer_types=[SLIDING, FULL], **rope("default", 150000.0))),
    "gpt-oss-clamped": ("gpt_oss", dict(
        GPT_OSS, swiglu_limit=0.4, swiglu_alpha=1.3, attention_bias=False,
        layer_types=[FULL, SLIDING, FULL], num_local_experts=3,
        tie_word_embeddings=True)),
}
PARAMETERS |= {
    "qwen3-moe": [GATE_UP, DOWN], "qwen3-moe-mixed": [DOWN, "mlp.gate.weight"],
    "qwen3-moe-step": [GATE_UP], "gpt-oss": [GATE_UP, DOWN, "mlp.router.weight"],
    "gpt-oss-clamped": [GATE_UP], "gpt-oss-mxfp4": [GATE_UP, DOWN],
}



def gemma4_ropes(share=0.5):
    return {FULL: {"rope_type": "proportional", "partial_rotary_factor": share,
                   "rope_theta": 1000000.0},
            SLIDING: {"rope_type": "default", "rope_theta": 10000.0}}


GEMMA4_VISION = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=8, patch_size=4, position_embedding_size=8,
                     pooling_kernel_size=1)
GEMMA4_AUDIO = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, conv_kernel_size=3,
                    subsampling_conv_channels=[4, 2], output_proj_dims=8)
CASES |= {
    # E2B: the last layers see keys and values of earlier ones, and have an MLP twice as wide.
    "gemma4-e2b": ("gemma4", dict(
        vision_config=GEMMA4_VISION, audio_config=GEMMA4_AUDIO, dtype="bfloat16",
        text_config=dict(
            num_hidden_layers=6, num_key_value_heads=1, head_dim=4, global_head_dim=8,
            sliding_window=5, layer_types=[SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL],
            num_kv_shared_layers=3, use_double_wide_mlp=True, hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=VOCABULARY, final_logit_softcapping=3.0, pad_token_id=0,
            rope_parameters=gemma4_ropes()))),
    # E4B, text alone; the first layer that shares is not the last of its kind that has keys.
    "gemma4-e4b": ("gemma4_text", dict(
        num_hidden_layers=5, head_dim=4, global_head_dim=8, sliding_window=4,
        layer_types=[SLIDING, FULL, SLIDING, SLIDING, FULL], num_kv_shared_layers=2,
        hidden_size_per_layer_input=16, vocab_size_per_layer_input=VOCABULARY,
        final_logit_softcapping=30.0, rope_parameters=gemma4_ropes(0.25))),
    # 31B: keys are values in layers that see everything, with heads of their own.
    "gemma4-keys": ("gemma4_text", dict(
        head_dim=4, global_head_dim=8, num_global_key_value_heads=1, attention_k_eq_v=True,
        sliding_window=5, layer_types=[SLIDING, SLIDING, FULL], hidden_size_per_layer_input=0,
        rope_parameters=gemma4_ropes())),
    # 12B.
    "gemma4-12b": ("gemma4_unified", dict(
        vision_config=dict(patch_size=4, pooling_kernel_size=1, mm_embed_dim=8, mm_posemb_size=4,
                           output_proj_dims=8),
        audio_config=dict(audio_embed_dim=8),
        text_config=dict(
            head_dim=4, global_head_dim=8, num_global_key_value_heads=1, attention_k_eq_v=True,
            sliding_window=5, layer_types=[SLIDING, SLIDING, FULL], pad_token_id=0,
            final_logit_softcapping=30.0, rope_parameters=gemma4_ropes(0.25)))),
    # All of it at once, with biases and an output projection of its own.
    "gemma4-unified": ("gemma4_unified_text", dict(
        num_hidden_layers=5, head_dim=4, global_head_dim=6, num_global_key_value_heads=1,
        attention_k_eq_v=True, attention_bias=True, tie_word_embeddings=False, sliding_window=6,
        layer_types=[FULL, SLIDING, FULL, SLIDING, FULL], num_kv_shared_layers=2,
        use_double_wide_mlp=True, dtype="bfloat16", final_logit_softcapping=3.0,
        rope_parameters=gemma4_ropes(0.4))),
}
LINEAR = "linear_attention"
DELTA = dict(head_dim=8, linear_key_head_dim=10, linear_value_head_dim=8, linear_num_key_heads=2,
             linear_num_value_heads=4)
CASES |= {
    "qwen3.5": ("qwen3_5_text", dict(
        num_hidden_layers=4, tie_word_embeddings=False, rms_norm_eps=1e-5, **DELTA,
        **rope("default", 10000000.0, partial_rotary_factor=0.25))),
    # With a small epsilon the reference itself has errors of 1e-3 in long rows: what leaves the
    # rule is near zero now and then, and its norm divides by that.
    "qwen3.5-long": ("qwen3_5_text", dict(
        layer_types=[LINEAR, LINEAR, FULL], tie_word_embeddings=False, rms_norm_eps=1e-3,
        **{**DELTA, "linear_key_head_dim": 16},
        **rope("default", 10000000.0, partial_rotary_factor=0.25))),
    "qwen3.5-tied": ("qwen3_5_text", dict(
        tie_word_embeddings=True, layer_types=[FULL, LINEAR, LINEAR], attention_bias=True,
        rms_norm_eps=1e-4,
        **{**DELTA, "linear_num_value_heads": 2, "linear_conv_kernel_dim": 3, "head_dim": 16},
        **rope("default", partial_rotary_factor=0.5))),
    "qwen3.5-nested": ("qwen3_5", dict(
        tie_word_embeddings=True,
        text_config=dict(layer_types=[LINEAR, FULL, LINEAR], tie_word_embeddings=True,
                         rms_norm_eps=1e-4,
                         **{**DELTA, "head_dim": 64, "linear_num_key_heads": 1}, **rope(
            "default", partial_rotary_factor=0.25, mrope_section=[3, 3, 2],
            mrope_interleaved=True)),
        vision_config=dict(
            depth=1, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4,
            temporal_patch_size=2, spatial_merge_size=2, out_hidden_size=24,
            num_position_embeddings=16, deepstack_visual_indexes=[]),
        image_token_id=76, video_token_id=77, vision_start_token_id=78,
        vision_end_token_id=79)),
}
CONV = dict(rms_norm_eps=None, norm_eps=1e-5)
CASES |= {
    "lfm2": ("lfm2", dict(
        layer_types=["conv", FULL, "conv"], tie_word_embeddings=True, block_multiple_of=8,
        **CONV)),
    "lfm2-biases": ("lfm2", dict(
        layer_types=["conv", "conv", FULL], tie_word_embeddings=False, conv_bias=True,
        conv_L_cache=4, block_auto_adjust_ff_dim=False, **CONV)),
}

# Mixtures of experts beside what the dense models of these families have.
SHARED = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16,
              shared_expert_intermediate_size=12, intermediate_size=None)
CASES |= {
    "qwen3.5-moe": ("qwen3_5_moe_text", dict(
        tie_word_embeddings=False, rms_norm_eps=1e-4, layer_types=[LINEAR, FULL, LINEAR], **SHARED,
        **DELTA, **rope("default", 10000000.0, partial_rotary_factor=0.25))),
    "qwen3.5-moe-nested": ("qwen3_5_moe", dict(
        tie_word_embeddings=True, text_config=dict(
            tie_word_embeddings=True, rms_norm_eps=1e-4, attention_bias=True, num_hidden_layers=2,
            layer_types=[LINEAR, FULL], **{**SHARED, "num_experts_per_tok": 3}, **DELTA, **rope(
                "default", partial_rotary_factor=0.5, mrope_section=[1, 1, 0],
                mrope_interleaved=True)),
        vision_config=CASES["qwen3.5-nested"][1]["vision_config"], image_token_id=76,
        video_token_id=77, vision_start_token_id=78, vision_end_token_id=79)),
    # 26B-A4B.
    "gemma4-moe": ("gemma4_text", dict(
        head_dim=4, global_head_dim=8, num_global_key_value_heads=1, attention_k_eq_v=True,
        sliding_window=5, layer_types=[SLIDING, SLIDING, FULL], hidden_size_per_layer_input=0,
        enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=16,
        final_logit_softcapping=30.0, rope_parameters=gemma4_ropes())),
    # With everything else that layers have; each token gets all experts, so that rounding to
    # bfloat16 cannot choose others.
    "gemma4-moe-inputs": ("gemma4", dict(
        CASES["gemma4-e2b"][1], text_config=dict(
            CASES["gemma4-e2b"][1]["text_config"], enable_moe_block=True, num_experts=3,
            top_k_experts=3, moe_intermediate_size=10))),
    "lfm2-moe": ("lfm2_moe", dict(
        layer_types=["conv", FULL, "conv"], tie_word_embeddings=True, num_dense_layers=1,
        num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16, **CONV)),
    "lfm2-moe-shares": ("lfm2_moe", dict(
        layer_types=["conv", FULL], num_hidden_layers=2, tie_word_embeddings=False, conv_bias=True,
        num_dense_layers=0, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=12,
        use_expert_bias=False, norm_topk_prob=False, routed_scaling_factor=1.5, **CONV)),
}
PARAMETERS |= {
    "qwen3.5-moe": [GATE_UP, DOWN, "mlp.gate.weight"], "qwen3.5-moe-nested": [DOWN],
    "gemma4-moe": ["experts.gate_up_proj", "experts.down_proj"],
    "gemma4-moe-inputs": ["experts.gate_up_proj"],
    "lfm2-moe": ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj",
                 "feed_forward.gate.weight"],
    "lfm2-moe-shares": ["feed_forward.experts.down_proj"],
}

if __name__ == "__main__":
    main()
