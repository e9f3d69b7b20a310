#!/usr/bin/env python3
"""Make `lora_variants/`: adapters of PEFT for `tiny/biases` with settings beyond those of `make_tiny.py`, and what
PEFT computes with them.

    python lora_variants.py [NAME...]      # writes lora_variants/NAME for all of them, or for these
    python lora_variants.py check DIR BASE MERGED
                                           # loads an adapter of ours with PEFT, and compares its logits with those of
                                           # the model that `firebrand merge` made of it
"""
import json
from pathlib import Path
import shutil
import sys

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
import torch

from make_tiny import ADAMW, LORA, MAX_GRAD_NORM, STEPS, gradients, load, make_batch, twenty_steps
from reference import LINEARS, logits_of, train

HERE = Path(__file__).resolve().parent
CASE, SEED = "biases", 104
MERGED = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]

# Several patterns fit some layers; in a file they stand in alphabetical order, and the first one counts.
PATTERNS = dict(
    rank_pattern={"model.layers.1.mlp.down_proj": 5, "q_proj": 2, r"layers\.0\.mlp\..*_proj": 3, "[kv]_proj": 1},
    alpha_pattern={"q_proj": 6, r".*\.1\.mlp\.(up|down)_proj": 2.5})
# In another order than that of their numbers; the first two are in the batch twice, the last one is not.
TOKENS = [53, 28, 4]

# Tokens that the base does not have, and those of the batch in whose places they are: see `batch_of`.
NEW = {53: 96, 28: 97}

# Biases of layers with an adapter are called otherwise than those of others.
FEWER = [name for name in LINEARS if name not in ("k_proj", "up_proj")]

UNTIED = ("modules", "tokens", "tokens-head", "tokens-new", "head", "embedding")
VARIANTS = {
    "patterns": PATTERNS,
    "patterns-dora": dict(use_dora=True, use_rslora=True, **PATTERNS),
    "plus": {},
    "plus-dora": dict(use_dora=True),
    "modules": dict(modules_to_save=["embed_tokens", "lm_head"]),
    "modules-tied": dict(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "tokens": dict(trainable_token_indices=TOKENS),
    "tokens-tied": dict(trainable_token_indices=TOKENS),
    "tokens-head": dict(trainable_token_indices={"embed_tokens": TOKENS, "lm_head": TOKENS[:2]}),
    "tokens-new": dict(trainable_token_indices=dict.fromkeys(("embed_tokens", "lm_head"), list(NEW.values()))),
    "tokens-new-tied": dict(trainable_token_indices=list(NEW.values())),
    "tokens-dora": dict(trainable_token_indices=TOKENS, use_dora=True),
    "head": dict(target_modules=[*LINEARS, "lm_head"], rank_pattern={"lm_head": 2}),
    "embedding": dict(target_modules=[*LINEARS, "embed_tokens", "lm_head"], use_rslora=True),
    "bias-all": dict(bias="all", target_modules=FEWER),
    "bias-lora-only": dict(bias="lora_only", target_modules=FEWER),
    "pissa": dict(init_lora_weights="pissa", **PATTERNS),
    "olora": dict(init_lora_weights="olora", use_rslora=True),
}


def base_of(name):
    """The base; that of whole modules and of tokens has a head of its own."""
    return "mha-untied" if name in UNTIED else CASE


def load_base(name):
    """The base with rows for new tokens, if the variant has some: the mean of the others, which transformers adds noise
    of some 1e-5 to."""
    model = load(HERE / "tiny" / base_of(name))
    if name.startswith("tokens-new"):
        rows = model.config.vocab_size
        model.resize_token_embeddings(rows + len(NEW))
        with torch.no_grad():
            for module in {model.get_input_embeddings(), model.get_output_embeddings()}:
                mean = module.weight[:rows].double().mean(0).float()
                assert (module.weight[rows:] - mean).abs().max() < 1e-4
                module.weight[rows:] = mean
    return model


def batch_of(name):
    """A batch, in which new tokens are in the places of others."""
    batch = make_batch(SEED)
    if name.startswith("tokens-new"):
        for old, new in NEW.items():
            batch.tokens[batch.tokens == old] = new
            batch.token[batch.token == old] = new
    return batch


def adapted(name):
    """PEFT's own start of A; B moved, so that everything has a gradient."""
    torch.manual_seed(SEED)
    settings = VARIANTS[name]
    model = get_peft_model(load_base(name), LoraConfig(
        task_type="CAUSAL_LM", lora_dropout=0.0, **{"target_modules": LINEARS, **LORA, **settings}))
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if ".lora_B." in name or ".lora_embedding_A." in name:
                parameter.add_(0.1 * noise)
            elif any(part in name for part in ("lora_magnitude_vector", "modules_to_save", "trainable_tokens_delta")):
                parameter.mul_(1.0 + 0.1 * noise)
            elif name.endswith(".bias") and parameter.requires_grad:
                parameter.add_(0.1 * noise)
    return model.eval()


def save(model, path, base):
    shutil.rmtree(path, ignore_errors=True)
    # Copies of the base's are left out, but where PEFT by itself adds one.
    copies = path.name in ("head", "tokens-new-tied")
    model.save_pretrained(path, save_embedding_layers=copies)
    (path / "README.md").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"../../tiny/{base}"
    config["target_modules"].sort()
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in path.iterdir():
        file.chmod(0o644)


def lora_plus(model):
    """Losses of twenty steps, as `make_tiny.twenty_steps` makes them."""
    batch = make_batch(SEED)
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16, loraplus_weight_decay=ADAMW["weight_decay"], **ADAMW)
    assert {group["lr"] for group in optimizer.param_groups if group["params"]} == {1e-3, 16e-3}
    losses, _ = train(model, optimizer, [[batch.row(0), batch.row(1)]] * STEPS, MAX_GRAD_NORM)
    return torch.tensor(losses)


def make_start(path, settings):
    """Of a start that takes a part out of the weights: the factors, what is left, and what training makes of it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    model = get_peft_model(load(HERE / "tiny" / CASE), LoraConfig(
        task_type="CAUSAL_LM", target_modules=LINEARS, lora_dropout=0.0, **{**LORA, **settings})).eval()
    expected = {}
    for layer in MERGED:
        module = model.get_submodule("base_model.model." + layer)
        expected |= {f"{layer}.rest": module.base_layer.weight.detach().clone(),
                     f"{layer}.lora_A": module.lora_A["default"].weight.detach().clone(),
                     f"{layer}.lora_B": module.lora_B["default"].weight.detach().clone()}
    batch = make_batch(SEED)
    losses = twenty_steps(model, batch, 1e-3)["losses"]
    expected["losses"] = torch.tensor(losses)
    with torch.no_grad():
        expected["logits"] = logits_of(model, batch)
    save_file({k: v.contiguous() for k, v in expected.items()}, path / "expected.safetensors")
    (path / "expected.safetensors").chmod(0o644)
    print(f"{path.name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def make(name):
    path = HERE / "lora_variants" / name
    if "init_lora_weights" in VARIANTS[name]:
        return make_start(path, VARIANTS[name])
    base = base_of(name)
    save(adapted(name), path, base)
    # As whoever loads it has it: patterns are in the order of the file.
    batch = batch_of(name)
    model = PeftModel.from_pretrained(load_base(name), path, is_trainable=True).eval()
    logits, loss, found = gradients(model, batch)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    # Of a head that is the embedding, files have the numbers once more.
    assert len(found) == len(shapes) - (name == "modules-tied")
    expected = {"logits": logits, "loss": loss}
    if name.startswith("plus"):
        expected["losses"] = lora_plus(model)
    else:
        if name.startswith("tokens"):
            rows = {key: gradient for key, gradient in found.items() if "trainable_tokens_delta" in key}
            expected |= {"gradient.head" if "lm_head" in key else "gradient": rows[key] for key in rows}
        if name in ("head", "embedding"):
            of = lambda key: key.removeprefix("base_model.model.").replace(".default", "")
            expected |= {"gradient." + of(key): gradient for key, gradient in found.items()
                         if "lm_head" in key or "embed_tokens" in key}
        if name.startswith("bias"):
            expected |= {"gradient." + key: gradient for key, gradient in found.items() if key.endswith(".bias")}
        if name.startswith(("modules", "tokens", "bias", "head", "embedding")):
            expected["losses"] = torch.tensor(twenty_steps(model, batch, 1e-3)["losses"])
            model = PeftModel.from_pretrained(load_base(name), path)
        weights = dict(model.merge_and_unload().named_parameters())
        expected |= {"merged." + layer: weights[layer + ".weight"].detach() for layer in MERGED}
        if name in ("tokens-head", "tokens-new", "head", "embedding"):
            tables = "lm_head", "model.embed_tokens"
            expected |= {"merged." + table: weights[table + ".weight"].detach().clone() for table in tables}
    save_file({k: v.contiguous() for k, v in expected.items()}, path / "expected.safetensors")
    print(f"{name}: loss {loss.item():.4f}, ranks {sorted({s[0] for n, s in shapes.items() if 'lora_A' in n})}")


def check(directory, base, merged):
    """With the rows that the merged model has, as `AutoPeftModelForCausalLM` gives the base those of the tokenizer."""
    whole, wide, resized = load(merged), load(base), load(base)
    wide.resize_token_embeddings(whole.config.vocab_size)
    resized.resize_token_embeddings(whole.config.vocab_size)
    model = PeftModel.from_pretrained(resized, directory).eval()
    batch = make_batch(SEED)
    batch.tokens %= model.config.vocab_size
    batch.tokens[:, -4:] = torch.arange(whole.config.vocab_size - 4, whole.config.vocab_size)
    with torch.no_grad():
        ours, plain = logits_of(whole, batch), logits_of(wide, batch)
        theirs = logits_of(model, batch)
    ranks = sorted({len(p) for name, p in model.named_parameters() if "lora_A" in name})
    print(f"ranks {ranks}: logits differ by at most {(ours - theirs).abs().max():.1e}; "
          f"those of the base by {(plain - theirs).abs().max():.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if sys.argv[1:2] == ["check"]:
        check(*sys.argv[2:])
    else:
        for variant in sys.argv[1:] or VARIANTS:
            make(variant)
