"""Random models of a middle size, one of each family, with the tokenizer of another model.

family_models.py TOKENIZER_DIR OUT FAMILY [SIZES as JSON]

Widths and numbers of layers are between those of the smallest checkpoints that there are and a
fraction of them: 0.1 to 0.3 billion weights, so that a step takes seconds on two cores.
"""

import json
import pathlib
import shutil
import sys

SIZES = dict(vocab_size=49152, hidden_size=1024, intermediate_size=3072, num_hidden_layers=10,
             num_attention_heads=16, num_key_value_heads=8, max_position_embeddings=4096,
             tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2)
SLIDING, FULL = "sliding_attention", "full_attention"
LINEAR = "linear_attention"
GEMMA = dict(head_dim=128, num_attention_heads=8, num_key_value_heads=2, sliding_window=256)
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": dict(head_dim=128, num_attention_heads=8, num_key_value_heads=4),
    "mistral": dict(sliding_window=None),
    "ministral3": dict(head_dim=64),
    "smollm3": {},
    "granite": dict(attention_multiplier=0.015625, embedding_multiplier=12.0,
                    residual_multiplier=0.22, logits_scaling=8.0),
    "granite_swa": dict(
        attention_multiplier=0.015625, embedding_multiplier=12.0, residual_multiplier=0.22,
        logits_scaling=8.0, sliding_window=256, layer_types=[FULL, SLIDING] * 5),
    "granitemoehybrid": dict(
        attention_multiplier=0.015625, embedding_multiplier=12.0, residual_multiplier=0.22,
        logits_scaling=8.0, layer_types=[FULL] * 10, num_local_experts=0, num_experts_per_tok=0,
        shared_intermediate_size=3072, position_embedding_type="rope"),
    "phi3": {},
    "olmo2": {},
    "olmo3": dict(sliding_window=256),
    "gemma2": dict(GEMMA, query_pre_attn_scalar=128),
    "gemma3_text": dict(GEMMA, query_pre_attn_scalar=128),
    "gemma4_text": dict(
        GEMMA, global_head_dim=256, num_kv_shared_layers=4, hidden_size_per_layer_input=128,
        vocab_size_per_layer_input=49152, use_double_wide_mlp=True,
        layer_types=[SLIDING, SLIDING, SLIDING, SLIDING, FULL] * 2),
    "gemma4_unified_text": dict(
        GEMMA, global_head_dim=256, attention_k_eq_v=True, num_global_key_value_heads=1,
        hidden_size_per_layer_input=0, layer_types=[SLIDING, SLIDING, SLIDING, SLIDING, FULL] * 2),
    "qwen3_5_text": dict(
        head_dim=256, num_attention_heads=4, num_key_value_heads=2, linear_num_key_heads=8,
        linear_num_value_heads=8, linear_key_head_dim=128, linear_value_head_dim=128,
        layer_types=[LINEAR, LINEAR, LINEAR, FULL, LINEAR] * 2),
    "lfm2": dict(layer_types=["conv", "conv", FULL, "conv", FULL] * 2),
    "qwen3_moe": dict(
        head_dim=128, num_attention_heads=8, num_key_value_heads=2, num_experts=16,
        num_experts_per_tok=4, moe_intermediate_size=512, norm_topk_prob=True),
    "qwen3_5_moe_text": dict(
        head_dim=256, num_attention_heads=4, num_key_value_heads=2, linear_num_key_heads=8,
        linear_num_value_heads=8, linear_key_head_dim=128, linear_value_head_dim=128,
        layer_types=[LINEAR, LINEAR, LINEAR, FULL, LINEAR] * 2, num_experts=16,
        num_experts_per_tok=4, moe_intermediate_size=512, shared_expert_intermediate_size=512),
    "gemma4_text experts": dict(
        GEMMA, global_head_dim=256, attention_k_eq_v=True, num_global_key_value_heads=1,
        hidden_size_per_layer_input=0, intermediate_size=1024, enable_moe_block=True,
        num_experts=16, top_k_experts=4, moe_intermediate_size=512,
        layer_types=[SLIDING, SLIDING, SLIDING, SLIDING, FULL] * 2),
    "lfm2_moe": dict(
        layer_types=["conv", "conv", FULL, "conv", FULL] * 2, num_dense_layers=2, num_experts=16,
        num_experts_per_tok=4, moe_intermediate_size=512),
    "gpt_oss": dict(
        head_dim=64, sliding_window=128, num_local_experts=8, num_experts_per_tok=2,
        intermediate_size=1024),
}


def main():
    # Here: what only asks for the names above is to stay small. The peak that the system tells of a
    # process begins with that of whoever started it.
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer, out, family = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    torch.manual_seed(5)
    more = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    # A second word tells models of one type apart.
    config = AutoConfig.for_model(family.split()[0], **{**SIZES, **FAMILIES[family], **more})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, out / name)
    print(sum(parameter.numel() for parameter in model.parameters()))


if __name__ == "__main__":
    main()
