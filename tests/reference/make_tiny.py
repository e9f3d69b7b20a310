#!/usr/bin/env python3
"""Make the tiny random Llama models of `tiny/` and what transformers, PEFT and PyTorch compute.

    python make_tiny.py [CASE...]        # all cases without arguments; same bytes every time
"""
import json
import random
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from reference import LINEARS, Batch, logits_of, logits_unpacked, nll_sum, peft_key, relative, train

HERE = Path(__file__).resolve().parent
VOCABULARY, LENGTH, STEPS = 96, 24, 20
LORA = {"r": 4, "lora_alpha": 8}
ADAMW = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
LORA_RATE, FULL_RATE, MAX_GRAD_NORM = 1e-2, 1e-3, 1.0

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CASES = {
    "gqa-tied": dict(num_key_value_heads=2, tie_word_embeddings=True),
    "mha-untied": dict(num_key_value_heads=4, tie_word_embeddings=False),
    "llama3-scaling": dict(rope_parameters={
        **LLAMA3, "original_max_position_embeddings": 16, "rope_theta": 10000.0}),
    "linear-scaling": dict(rope_parameters={
        "rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
    "biases": dict(attention_bias=True, mlp_bias=True),
    "head-dim": dict(head_dim=16),
    # Wavelengths 6, 20, 63, 199 and limits 8, 32: frequencies kept, interpolated and divided.
    "classic-rope": dict(rope_parameters={
        **LLAMA3, "original_max_position_embeddings": 32, "rope_theta": 100.0}),
    "bf16-sharded": dict(tie_word_embeddings=False),
}
# Older files name the kind of scaling `type`; later ones `rope_type`.
CLASSIC = {"classic-rope": "rope_type", "llama3-scaling": "rope_type", "linear-scaling": "type"}


def config_of(case):
    common = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=128, rms_norm_eps=1e-5)
    return LlamaConfig(**{**common, **CASES[case]})


def random_model(case, seed):
    """Weights large enough that logits, attention and norms all vary."""
    model = LlamaForCausalLM(config_of(case))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name
            parameter.copy_(1.0 + 0.1 * noise if is_norm else 0.2 * noise)
    model.tie_weights()
    return model


def classic_config(path, key):
    """The same config in the form of transformers 4: `rope_theta` and `rope_scaling`."""
    config = json.loads((path / "config.json").read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    kind = scaling.pop("rope_type")
    config["rope_scaling"] = {key: kind, **scaling}
    config["transformers_version"] = "4.46.0"
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    (path / "config.classic.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save(case, path, seed):
    model = random_model(case, seed)
    if case == "bf16-sharded":
        model.to(torch.bfloat16).save_pretrained(path, max_shard_size="20KB")
        assert len(list(path.glob("model-*.safetensors"))) == 3, list(path.iterdir())
    else:
        model.save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    for file in path.glob("*.safetensors"):
        file.chmod(0o644)
    if case in CLASSIC:
        classic_config(path, CLASSIC[case])


def load(path, dtype=torch.float32):
    model = LlamaForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager")
    return model.eval()


def make_batch(seed):
    """Row 0: one document of 24; row 1: documents of 9 and 11, then 4 padding positions."""
    chance = random.Random(seed)
    documents = [1] * LENGTH + [1] * 9 + [2] * 11 + [0] * 4
    positions = list(range(LENGTH)) + list(range(9)) + list(range(11)) + [0] * 4
    tokens = [chance.randrange(3, VOCABULARY) if d else 0 for d in documents]
    inside = [i for i in range(len(tokens) - 1)
              if (i + 1) % LENGTH and documents[i] and documents[i] == documents[i + 1]]
    chosen = sorted(chance.sample(inside, round(0.6 * len(inside))))
    return Batch(2, LENGTH, tokens, positions, documents, [(i, tokens[i + 1]) for i in chosen])


def with_lora(model, seed):
    """PEFT's own start of A; B random instead of zero, so that A has a gradient too."""
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(
        task_type="CAUSAL_LM", target_modules=LINEARS, lora_dropout=0.0, **LORA))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if ".lora_B." in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def gradients(model, batch):
    """Logits, mean loss, and the gradient of every trainable parameter by name."""
    model.zero_grad()
    logits = logits_of(model, batch)
    loss = nll_sum(logits, batch) / len(batch.index)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return logits.detach(), loss.detach(), found


def twenty_steps(model, batch, rate):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, **ADAMW)
    losses, norms = train(model, optimizer, [[batch.row(0), batch.row(1)]] * STEPS, MAX_GRAD_NORM)
    return {"learning_rate": rate, "losses": losses, "gradient_norms": norms}


def check_packing(model, batch, logits):
    """Packed rows must equal each document run alone, or the mask is wrong."""
    real = batch.documents > 0
    with torch.no_grad():
        alone = logits_unpacked(model, batch)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[real], alone[real], rtol=1e-5, atol=1e-5)


def check_classic(path, batch, logits):
    if not (path / "config.classic.json").exists():
        return
    config = LlamaConfig.from_json_file(path / "config.classic.json")
    model = LlamaForCausalLM.from_pretrained(
        path, config=config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.equal(logits_of(model, batch), logits), path
        plain = LlamaConfig(**{**config.to_dict(), "rope_parameters": {
            "rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}})
        unscaled = LlamaForCausalLM.from_pretrained(
            path, config=plain, dtype=torch.float32, attn_implementation="eager").eval()
        assert relative(logits_of(unscaled, batch), logits) > 1e-2, "scaling does not matter"


def check_precision(path, batch, adapter, expected):
    """The same in f64: how much of the reference is rounding. Returns the largest differences."""
    model = load(path, torch.float64)
    logits, loss, full = gradients(model, batch)
    worst = max(((expected["full_grad." + n].double() - g).norm() / g.norm()).item()
                for n, g in full.items() if g.norm() > 0)
    real = batch.documents > 0
    steps_full = twenty_steps(load(path, torch.float64), batch, FULL_RATE)
    model = with_lora(model, 0)
    peft.set_peft_model_state_dict(model, adapter)
    steps = twenty_steps(model.double(), batch, LORA_RATE)
    return {"logits": relative(expected["logits"].double()[real], logits[real]),
            "loss": abs(expected["loss"].item() - loss.item()), "full_gradients": worst,
            }, steps, steps_full


def make_case(case, seed):
    path = HERE / "tiny" / case
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    save(case, path, seed)
    batch = make_batch(seed)
    model = load(path)
    logits, loss, full = gradients(model, batch)
    check_packing(model, batch, logits)
    check_classic(path, batch, logits)
    integers = lambda t: t.to(torch.int32)
    expected = {
        "tokens": integers(batch.tokens), "positions": integers(batch.positions),
        "documents": integers(batch.documents), "target_index": integers(batch.index),
        "target_token": integers(batch.token), "logits": logits, "loss": loss,
        **{"full_grad." + n: g for n, g in full.items()}}
    full_steps = twenty_steps(model, batch, FULL_RATE)

    model = with_lora(load(path), seed)
    adapter = {k: v.clone() for k, v in get_peft_model_state_dict(model).items()}
    logits, loss, found = gradients(model, batch)
    check_packing(model, batch, logits)
    assert {peft_key(n) for n in found} == set(adapter)
    expected |= {"lora_logits": logits, "lora_loss": loss,
                 **{"lora." + n: t for n, t in adapter.items()},
                 **{"grad." + peft_key(n): g for n, g in found.items()}}
    lora_steps = twenty_steps(model, batch, LORA_RATE)
    expected = {k: v.contiguous() for k, v in expected.items()}
    rounding, lora_f64, full_f64 = check_precision(path, batch, adapter, expected)
    for mine, exact in ((lora_steps, lora_f64), (full_steps, full_f64)):
        mine["rounding"] = float("%.1e" % max(
            abs(a - b) for a, b in zip(mine["losses"], exact["losses"])))
    save_file(expected, path / "expected.safetensors")
    (path / "expected.safetensors").chmod(0o644)
    write_json(path / "expected.json", {
        "case": case, "seed": seed, "targets": len(batch.index),
        "loss": expected["loss"].item(), "lora_loss": loss.item(),
        "rounding": {k: float("%.1e" % v) for k, v in rounding.items()},
        "lora": {**LORA, "target_modules": LINEARS},
        "adamw": ADAMW, "max_grad_norm": MAX_GRAD_NORM, "micro_batches": [[0], [1]],
        "lora_steps": lora_steps, "full_steps": full_steps})
    size = sum(f.stat().st_size for f in path.iterdir()) / 1024
    last = lora_steps["losses"][-1], full_steps["losses"][-1]
    short = {k: "%.0e" % v for k, v in rounding.items()}
    print(f"{case:15} loss {loss.item():.4f} -> lora {last[0]:.4f}, full {last[1]:.4f}; "
          f"logits' deviation {logits.std():.2f}; rounding {short}, "
          f"lora {lora_steps['rounding']}, full {full_steps['rounding']}; {size:.0f} KiB")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def greedy(model, prompt, count):
    """Argmax continuation without a cache, and the smallest lead of a winner over the second."""
    tokens, lead = list(prompt), float("inf")
    with torch.no_grad():
        for _ in range(count):
            top = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
            lead = min(lead, (top.values[0] - top.values[1]).item())
            tokens.append(int(top.indices[0]))
    return tokens[len(prompt):], lead


def make_generate(count=16):
    """Prompts whose continuation is clear (no near ties) and does not meet the end token."""
    path = HERE / "tiny" / "gqa-tied"
    model, chance, made = load(path), random.Random(5), []
    for length in (1, 5, 12):
        while True:
            prompt = [chance.randrange(3, VOCABULARY) for _ in range(length)]
            tokens, lead = greedy(model, prompt, count)
            if lead > 0.02 and model.config.eos_token_id not in tokens and len(set(tokens)) > 4:
                break
        cached = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, length, dtype=torch.long),
            max_new_tokens=count, do_sample=False, pad_token_id=0)[0, length:].tolist()
        assert cached == tokens
        made.append({"prompt": prompt, "continuation": tokens, "smallest_lead": lead})
    write_json(path / "generate.json", made)


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for number, case in enumerate(CASES):
        if len(sys.argv) == 1 or case in sys.argv[1:]:
            make_case(case, 100 + number)
    if len(sys.argv) == 1 or "gqa-tied" in sys.argv[1:]:
        make_generate()


if __name__ == "__main__":
    main()
