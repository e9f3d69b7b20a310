#!/usr/bin/env python3
"""Artifacts of each family in transformers and PEFT. Run by hand.

    family_artifacts.py FIREBRAND [FAMILY...]

Makes a tiny random model of each family with transformers, has FIREBRAND train an adapter of it and
merge that, loads both, and compares: logits of the merged model with those of the adapter, and what
Firebrand writes greedily with what transformers does. An adapter of experts is exported for vLLM,
too, with a name for each matrix of each expert: what it holds is added to the base here, without
PEFT, and must make the merged model. Exit code 1: too different.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import peft
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer)

HERE = Path(__file__).resolve().parent
TOKENIZER = HERE.parent / "fixtures" / "tokenizer"
SIZES = dict(
    vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
SLIDING, FULL = "sliding_attention", "full_attention"
LINEAR = {FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
          SLIDING: {"rope_type": "default", "rope_theta": 1e4}}
GEMMA = dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=16, layer_types=[SLIDING, SLIDING, FULL])
VISION = dict(model_type="siglip_vision_model", hidden_size=8, intermediate_size=16,
              num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4)
ROPES = {FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
         SLIDING: {"rope_type": "default", "rope_theta": 1e4}}
GEMMA4 = dict(SIZES, num_hidden_layers=6, num_key_value_heads=1, head_dim=8, global_head_dim=16,
              sliding_window=16, layer_types=[SLIDING, SLIDING, FULL] * 2, num_kv_shared_layers=3,
              use_double_wide_mlp=True, hidden_size_per_layer_input=16,
              vocab_size_per_layer_input=512, final_logit_softcapping=30.0, rope_parameters=ROPES)
GEMMA4_VISION = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=8, patch_size=4, position_embedding_size=8,
                     pooling_kernel_size=1)
GEMMA4_AUDIO = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, conv_kernel_size=3,
                    subsampling_conv_channels=[4, 2], output_proj_dims=8)
KEYS = dict(SIZES, head_dim=8, global_head_dim=16, num_global_key_value_heads=1, sliding_window=16,
            attention_k_eq_v=True, layer_types=[SLIDING, SLIDING, FULL], rope_parameters=ROPES,
            final_logit_softcapping=30.0)
DELTA = dict(
    head_dim=8, rms_norm_eps=1e-3, linear_key_head_dim=8, linear_value_head_dim=8,
    linear_num_key_heads=2, linear_num_value_heads=4,
    layer_types=["linear_attention", "linear_attention", FULL])
FAMILIES = {
    "gemma4": dict(text_config=GEMMA4, vision_config=GEMMA4_VISION, audio_config=GEMMA4_AUDIO),
    "gemma4_text": GEMMA4,
    "gemma4_unified": dict(
        text_config=KEYS, audio_config=dict(audio_embed_dim=8), vision_config=dict(
            patch_size=4, pooling_kernel_size=1, mm_embed_dim=8, mm_posemb_size=4,
            output_proj_dims=8)),
    "gemma4_unified_text": KEYS,
    "gemma2": dict(GEMMA),
    "gemma3_text": dict(GEMMA, rope_parameters=LINEAR),
    "gemma3": dict(
        text_config=dict(SIZES, **GEMMA, rope_parameters=LINEAR), vision_config=VISION,
        mm_tokens_per_image=4, image_token_index=509, boi_token_index=510, eoi_token_index=511),
    "lfm2_moe": dict(
        layer_types=["conv", FULL, "conv"], num_dense_layers=1, num_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=24),
    "lfm2": dict(layer_types=["conv", FULL, "conv"], block_multiple_of=8),
    "olmo2": {},
    "qwen3_moe": dict(head_dim=8, moe_intermediate_size=24, num_experts=5, num_experts_per_tok=2,
                      norm_topk_prob=True),
    "gpt_oss": dict(head_dim=8, sliding_window=16, num_local_experts=4, num_experts_per_tok=2),
    "olmo3": dict(sliding_window=16, layer_types=[SLIDING, FULL, SLIDING]),
    "qwen3_5_text": DELTA,
    "qwen3_5": dict(
        text_config=dict(SIZES, **DELTA), image_token_id=509, video_token_id=510,
        vision_start_token_id=508, vision_end_token_id=511, vision_config=dict(
            depth=1, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4,
            temporal_patch_size=2, spatial_merge_size=2, out_hidden_size=32,
            num_position_embeddings=16)),
}
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=64,
            beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)
MULTIPLIERS = dict(embedding_multiplier=2.0, residual_multiplier=0.6, attention_multiplier=0.25,
                   logits_scaling=2.0)
MINISTRAL = dict(head_dim=8, rope_parameters=dict(YARN, llama_4_scaling_beta=0.1))
FAMILIES |= {
    "llama": {}, "qwen2": {}, "smollm3": dict(no_rope_layer_interval=2, pad_token_id=0),
    "granite": MULTIPLIERS,
    "granitemoehybrid": dict(
        MULTIPLIERS, layer_types=[FULL] * 3, num_local_experts=0, num_experts_per_tok=0,
        shared_intermediate_size=48, mamba_n_heads=4, position_embedding_type="rope"),
    "granite_swa": dict(sliding_window=16, layer_types=[SLIDING, SLIDING, FULL]),
    "mistral": dict(sliding_window=None),
    "ministral3": MINISTRAL,
    "mistral3": dict(
        text_config=dict(SIZES, model_type="ministral3", **MINISTRAL), vision_config=dict(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            image_size=8, patch_size=4, head_dim=8)),
    "phi3": dict(sliding_window=None, pad_token_id=0),
    "qwen3": dict(head_dim=8),
}
EXPERTS = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=24,
               shared_expert_intermediate_size=16)
BESIDE = dict(enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=24)
# A second word tells models of one type apart.
FAMILIES |= {
    # As DELTA, more so: rounding is not to decide what is compared.
    "qwen3_5_moe_text": DELTA | EXPERTS | {"rms_norm_eps": 1e-2},
    "qwen3_5_moe": dict(FAMILIES["qwen3_5"], text_config={**SIZES, **DELTA, **EXPERTS}),
    "gemma4_text experts": {**KEYS, **BESIDE, "hidden_size_per_layer_input": 0},
    "gemma4 experts": dict(FAMILIES["gemma4"], text_config={**GEMMA4, **BESIDE}),
}
# What adapters of mixtures of experts stand beside, too.
PARAMETERS = {
    "qwen3_moe": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"],
    "gpt_oss": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.router.weight"],
    "lfm2_moe": ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj",
                 "feed_forward.gate.weight"],
    "gemma4 experts": ["experts.gate_up_proj", "experts.down_proj"],
}
PARAMETERS |= {
    "qwen3_5_moe_text": PARAMETERS["qwen3_moe"], "qwen3_5_moe": PARAMETERS["qwen3_moe"],
    "gemma4_text experts": PARAMETERS["gemma4 experts"]}
# Whose class for causal language models has the text model alone; which have no such class.
BESIDE_IMAGES, ONLY_WITH_IMAGES = {"qwen3_5", "qwen3_5_moe"}, {"mistral3"}
CONFIG = """
[model]
base = "base"
[data]
max_seq_len = 96
[[data.train]]
path = "data.jsonl"
[lora]
r = 4
lora_alpha = 8
[train]
max_steps = 4
micro_batch_size = 2
learning_rate = 2e-2
[checkpoint]
reuse = "never"
[device]
name = "cpu"
"""
PROMPT, WRITTEN = "What is 3 plus 4?", 12


def kind(family, with_images=BESIDE_IMAGES | ONLY_WITH_IMAGES):
    return AutoModelForImageTextToText if family in with_images else AutoModelForCausalLM


def make_base(family, folder):
    options = FAMILIES[family]
    options = options if "text_config" in options else {**SIZES, **options}
    torch.manual_seed(5)
    config = AutoConfig.for_model(family.split()[0], **options, initializer_range=0.3)
    model = kind(family).from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("scale"):  # zeros and ones hide what a gain does
                parameter.add_(0.2 * torch.randn(parameter.shape))
        for name, buffer in model.named_buffers():
            if name.endswith(("layer_scalar", "expert_bias")):
                buffer.add_(0.2 * torch.randn(buffer.shape))
    model.save_pretrained(folder)
    for path in TOKENIZER.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, folder)


def check(firebrand, family, folder):
    def run(*arguments):
        done = subprocess.run([firebrand, *arguments], cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "XDG_CONFIG_HOME": str(folder / "settings"),
                                   "FIREBRAND_CACHE": str(folder / "cache")})
        if done.returncode:
            raise SystemExit(f"{family}: {arguments}\n{done.stderr}")
        return done.stdout

    make_base(family, folder / "base")
    lines = [{"messages": [{"role": "user", "content": f"What is {i % 7} plus {i % 5}?"},
                           {"role": "assistant", "content": f"It is {i % 7 + i % 5}."}]}
             for i in range(20)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parameters = json.dumps(PARAMETERS.get(family, []))
    adapter = CONFIG.replace("[train]", f"target_parameters = {parameters}\n[train]")
    (folder / "run.toml").write_text(adapter)
    full = CONFIG[:CONFIG.index("[lora]")] + CONFIG[CONFIG.index("[train]"):]
    (folder / "full.toml").write_text(full.replace("2e-2", "1e-3"))
    run("train", "run.toml", "--quiet")
    run("merge", "checkpoints/run", "--out", "merged")
    base = kind(family).from_pretrained(folder / "base", dtype=torch.float32)
    tokens = torch.randint(3, 500, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = base(tokens).logits
        adapter = peft.PeftModel.from_pretrained(base, folder / "checkpoints/run/artifact").eval()
        trainable = [n for n, p in adapter.named_parameters() if "lora_" in n]
        merged = kind(family).from_pretrained(folder / "merged", dtype=torch.float32)
        one, other = adapter(tokens).logits, merged(tokens).logits
    distance = ((one - other).abs().max() / one.abs().max()).item()
    effect = ((one - before).abs().max() / one.abs().max()).item()
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(WRITTEN):
            prompt = torch.cat([prompt, adapter(prompt).logits[:, -1:].argmax(-1)], 1)
    well = family not in PARAMETERS or check_served(run, family, folder, tokens, other)
    written = until_end(tokenizer, prompt[0, -WRITTEN:])
    ours = [run("generate", "--prompt", PROMPT, "--max-tokens", str(WRITTEN), "--device", "cpu",
                name) for name in ("checkpoints/run", "merged")]
    written = written.replace("\r", "\n")  # as the text of a process is read
    same = all(text.strip() == written.strip() for text in ours)
    same &= check_full(run, family, folder, tokenizer, before, tokens)
    print(f"{family:12} {len(trainable)} tensors of the adapter, effect {effect:.2f}, adapter and "
          f"merged differ by {distance:.1e}, texts {'are the same' if same else 'DIFFER'}")
    if not same:
        print("  ", repr(written), [text.strip() for text in ours])
    return well and same and distance < 1e-5 and effect > 1e-2


def check_served(run, family, folder, tokens, merged):
    """The adapter for vLLM, added to the base by hand."""
    run("export", "checkpoints/run", "--format", "vllm", "--out", "served")
    model = kind(family).from_pretrained(folder / "base", dtype=torch.float32)
    settings = json.loads((folder / "served/adapter_config.json").read_text())
    adapter = load_file(folder / "served/adapter_model.safetensors")
    scale, of_experts = settings["lora_alpha"] / settings["r"], 0
    with torch.no_grad():
        for name in [name for name in adapter if name.endswith(".lora_A.weight")]:
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            change = scale * adapter[name.replace("lora_A", "lora_B")] @ adapter[name]
            parts = re.fullmatch(r"(.*?)(?:\.moe)?\.experts\.(\d+)\.(\w+)", path)
            if not parts:
                model.get_submodule(path).weight += change
                continue
            of_experts += 1
            experts, number = model.get_submodule(parts[1] + ".experts"), int(parts[2])
            matrix = parts[3] in ("down_proj", "w2")
            weight = (experts.down_proj if matrix else experts.gate_up_proj)[number]
            if family == "gpt_oss":
                weight = weight.T
            if not matrix and family == "gpt_oss":
                weight = weight[1::2] if parts[3] == "up_proj" else weight[::2]
            elif not matrix:
                half = len(weight) // 2
                weight = weight[half:] if parts[3] in ("up_proj", "w3") else weight[:half]
            weight += change
        found = model(tokens).logits
    distance = ((found - merged).abs().max() / merged.abs().max()).item()
    print(f"  for vLLM: {of_experts} matrices of experts, added by hand and merged differ by "
          f"{distance:.1e}")
    return of_experts > 0 and distance < 1e-5


def until_end(tokenizer, tokens):
    """What is written before a turn or the text ends: Firebrand stops there, and shows no other
    special tokens."""
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    tokens = tokens.tolist()
    length = next((n for n, token in enumerate(tokens) if token in ends), len(tokens))
    return tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()


def check_full(run, family, folder, tokenizer, before, tokens):
    """A model all of whose weights were trained, in transformers."""
    run("train", "full.toml", "--quiet")
    trained = kind(family, ONLY_WITH_IMAGES).from_pretrained(
        folder / "checkpoints/full/artifact", dtype=torch.float32)
    prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        effect = (trained(tokens).logits - before).abs().max().item()
        for _ in range(WRITTEN):
            prompt = torch.cat([prompt, trained(prompt).logits[:, -1:].argmax(-1)], 1)
    # As Python reads what a program prints.
    written = until_end(tokenizer, prompt[0, -WRITTEN:]).replace("\r", "\n")
    ours = run("generate", "--prompt", PROMPT, "--max-tokens", str(WRITTEN), "--device", "cpu",
               "checkpoints/full").strip()
    print(f"  full training: effect {effect:.2f}, texts {'are the same' if ours == written else 'DIFFER'}")
    return ours == written and effect > 1e-2


def main():
    firebrand = str(Path(sys.argv[1]).resolve())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    well = True
    for family in sys.argv[2:] or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            well &= check(firebrand, family, Path(folder))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
