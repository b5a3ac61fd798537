#!/usr/bin/env python3
"""Writes tests/golden/data: tiny random checkpoints with the answers of Hugging Face transformers.

    make_golden.py [CASE ...]      all cases by default

data/<case>/ is a checkpoint as transformers saves it, and golden.safetensors beside it:
    prompt.<i>.ids      i32 [n]
    prompt.<i>.logits   f32 [n, vocab]   of all positions
    prompt.<i>.greedy   i32 [32]         the tokens that follow
data/rotary/<variant>/ holds a config.json and rotary.safetensors: positions and sequence lengths
i32 [n], cos and sin f32 [n, head_dim / 2].

The answers are computed in f32 from the weights as stored (rounded to bf16 or f16 where the case
says so), with eager attention on the CPU. A seed whose greedy tokens or chosen experts hang on a
near tie is skipped, so that equal tokens are a fair demand on another implementation.
"""

import argparse
import json
import pathlib
import re
import shutil

import safetensors.torch
import torch
import transformers
from transformers import (LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM,
                          OlmoeConfig, OlmoeForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

DATA = pathlib.Path(__file__).parent / "data"
PROMPT_LENGTHS = [1, 5, 18, 29]
NUM_GREEDY = 32
MAX_FILE_BYTES = 1_000_000
# Of the range of the values compared: a hundred times the rounding of f32.
SMALLEST_GAP = 1e-4
PLAIN = dict(attn_implementation="eager", experts_implementation="eager")

FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM,
              dict(hidden_size=40, num_attention_heads=4, num_key_value_heads=2,
                   intermediate_size=42)),
    "olmoe": (OlmoeConfig, OlmoeForCausalLM,
              dict(hidden_size=48, num_attention_heads=4, num_key_value_heads=4, num_experts=6,
                   num_experts_per_tok=2, intermediate_size=20)),
    "mixtral": (MixtralConfig, MixtralForCausalLM,
                dict(hidden_size=36, num_attention_heads=6, num_key_value_heads=2,
                     num_local_experts=5, num_experts_per_tok=2, intermediate_size=28)),
    "qwen2_moe": (Qwen2MoeConfig, Qwen2MoeForCausalLM,
                  dict(hidden_size=40, num_attention_heads=4, num_key_value_heads=2,
                       num_experts=6, num_experts_per_tok=3, moe_intermediate_size=18,
                       shared_expert_intermediate_size=26, intermediate_size=44)),
    "qwen3_moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                  dict(hidden_size=40, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                       num_experts=7, num_experts_per_tok=2, moe_intermediate_size=18,
                       intermediate_size=44)),
}


def case(family, dtype="bfloat16", spelling=5, shard_bytes=None, fp8_block=None, **config):
    """fp8_block: rows and columns that share a scale, of matrices that are then stored as E4M3."""
    return dict(family=family, dtype=dtype, spelling=spelling, shard_bytes=shard_bytes,
                fp8_block=fp8_block, config=config)


def rope(kind, **fields):
    return dict(rope_type=kind, **fields)


CASES = {
    "llama_gqa": case("llama"),
    "llama_bias_tied_llama3_old": case("llama", dtype="float32", spelling=4, attention_bias=True,
                                       tie_word_embeddings=True, head_dim=12,
                                       max_position_embeddings=256,
                                       rope_parameters=rope("llama3", rope_theta=500.0, factor=8.0,
                                                            low_freq_factor=1.0,
                                                            high_freq_factor=4.0,
                                                            original_max_position_embeddings=32)),
    "olmoe_f32": case("olmoe", dtype="float32"),
    "olmoe_clip_gqa_tied": case("olmoe", dtype="float16", spelling=4, num_key_value_heads=2,
                                clip_qkv=0.7, norm_topk_prob=True, tie_word_embeddings=True),
    "olmoe_bias_top1": case("olmoe", attention_bias=True, num_experts_per_tok=1,
                            norm_topk_prob=True),
    "olmoe_dynamic": case("olmoe", max_position_embeddings=16,
                          rope_parameters=rope("dynamic", rope_theta=10000.0, factor=4.0)),
    "olmoe_linear": case("olmoe", spelling=4, max_position_embeddings=32,
                         rope_parameters=rope("linear", rope_theta=10000.0, factor=2.5)),
    "mixtral_gqa": case("mixtral"),
    "mixtral_head_dim_old": case("mixtral", spelling=4, head_dim=10),
    "mixtral_window": case("mixtral", sliding_window=7),
    "mixtral_sharded_all_experts": case("mixtral", shard_bytes=60_000, num_experts_per_tok=5,
                                        tie_word_embeddings=True),
    "mixtral_llama3_old": case("mixtral", spelling=4, max_position_embeddings=256,
                               rope_parameters=rope("llama3", rope_theta=500.0, factor=8.0,
                                                    low_freq_factor=1.0, high_freq_factor=4.0,
                                                    original_max_position_embeddings=32)),
    "qwen2_shared": case("qwen2_moe", spelling=4),
    "qwen2_shared_normed": case("qwen2_moe", dtype="float32", norm_topk_prob=True,
                                vocab_size=131, qkv_bias=False),
    "qwen2_dense_window_tied": case("qwen2_moe", num_hidden_layers=4, mlp_only_layers=[2],
                                    use_sliding_window=True, sliding_window=6,
                                    max_window_layers=3, tie_word_embeddings=True),
    "qwen3_head_dim": case("qwen3_moe", norm_topk_prob=True),
    "qwen3_sparse_step_old": case("qwen3_moe", spelling=4, num_hidden_layers=4,
                                  decoder_sparse_step=2),
    "qwen3_window_bias": case("qwen3_moe", use_sliding_window=True, sliding_window=5,
                              attention_bias=True, mlp_only_layers=[0], norm_topk_prob=True),
    "qwen3_yarn": case("qwen3_moe", max_position_embeddings=64,
                       rope_parameters=rope("yarn", rope_theta=1000.0, factor=4.0,
                                            original_max_position_embeddings=16)),
    "qwen3_yarn_options_old": case("qwen3_moe", spelling=4, max_position_embeddings=64,
                                   rope_parameters=rope("yarn", rope_theta=1000.0, factor=4.0,
                                                        original_max_position_embeddings=16,
                                                        beta_fast=8.0, beta_slow=0.5,
                                                        mscale=0.8, mscale_all_dim=0.3,
                                                        truncate=False)),
    "qwen3_fp8": case("qwen3_moe", dtype="float32", fp8_block=(16, 16), hidden_size=48,
                      moe_intermediate_size=32, intermediate_size=32, mlp_only_layers=[1],
                      norm_topk_prob=True),
    "mixtral_fp8": case("mixtral", dtype="float32", fp8_block=(12, 18), head_dim=12,
                        intermediate_size=72, tie_word_embeddings=True),
}

# Rotary tables with the settings of real models, at positions beyond a tiny checkpoint's.
ROTARY = {
    "default": (64, 4096, rope("default", rope_theta=10000.0)),
    "linear": (64, 4096, rope("linear", rope_theta=10000.0, factor=4.0)),
    "dynamic": (64, 2048, rope("dynamic", rope_theta=10000.0, factor=2.0)),
    "yarn": (128, 40960, rope("yarn", rope_theta=1e6, factor=4.0,
                              original_max_position_embeddings=32768)),
    "yarn_attention_factor": (128, 8192, rope("yarn", rope_theta=1e6, factor=8.0,
                                              attention_factor=0.75, beta_fast=16.0,
                                              original_max_position_embeddings=1024)),
    "yarn_mscale": (64, 163840, rope("yarn", rope_theta=10000.0, factor=40.0, mscale=0.707,
                                     mscale_all_dim=1.0, truncate=False,
                                     original_max_position_embeddings=4096)),
    "llama3": (128, 131072, rope("llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=8192)),
}
ROTARY_POSITIONS = [0, 1, 2, 7, 64, 1000, 2047, 2048, 4000, 20000]


def versions():
    return {"transformers": transformers.__version__, "torch": torch.__version__,
            "safetensors": safetensors.__version__}


def build_model(spec, seed):
    """Weights whose activations stay near one: HF's initial 0.02 would hide most mistakes."""
    config_class, model_class, shape = FAMILIES[spec["family"]]
    fields = dict(vocab_size=128, num_hidden_layers=2, max_position_embeddings=128,
                  bos_token_id=None, eos_token_id=None, pad_token_id=None)
    fields.update(shape)
    fields.update(json.loads(json.dumps(spec["config"])))
    config = config_class(**fields, **PLAIN)
    model = model_class(config).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if "embed_tokens" in name:
                value = noise
            elif parameter.dim() >= 2:
                value = noise / parameter.shape[-1] ** 0.5
            else:
                value = 0.1 * noise + (0.0 if name.endswith("bias") else 1.0)
            # Rounded here, so that the answers belong to the weights as they are stored.
            parameter.copy_(value.to(getattr(torch, spec["dtype"])).float())
    return model


def quantize(weight, block, scale_dtype):
    """E4M3 numbers and the scale of each block, chosen so that its largest weight is 448."""
    rows, cols = block
    blocks = weight.unflatten(0, (-1, rows)).unflatten(2, (-1, cols))
    scales = (blocks.abs().amax(dim=(1, 3)) / 448).to(scale_dtype)
    scaled = blocks / scales.float()[:, None, :, None]
    return scaled.flatten(2, 3).flatten(0, 1).clamp(-448, 448).to(torch.float8_e4m3fn), scales


def store_as_fp8(model, spec, directory):
    """The model that transformers reads from the matrices as E4M3, which lie in `directory`."""
    save_checkpoint(model, spec, directory)
    path = directory / "model.safetensors"
    tensors = {}
    for name, tensor in safetensors.torch.load_file(path).items():
        if not re.search(r"(_proj|\.w[123])\.weight$", name):
            tensors[name] = tensor
            continue
        scale_name = name + "_scale_inv"
        tensors[name], tensors[scale_name] = quantize(tensor.float(), spec["fp8_block"],
                                                      getattr(torch, spec["dtype"]))
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
        "weight_block_size": list(spec["fp8_block"]),
        "modules_to_not_convert": ["lm_head", "gate"]}
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    return load(directory)


def forget_length(model):
    """Dynamic scaling keeps the longest length it has seen; each prompt starts afresh."""
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)


def smallest_relative_gap(values, k):
    """Between the k-th and the next largest, over the range of the values."""
    ordered = values.sort(dim=-1, descending=True).values
    if k >= values.shape[-1]:
        return float("inf")
    span = ordered[..., 0] - ordered[..., -1]
    return float(((ordered[..., k - 1] - ordered[..., k]) / span).min())


def greedy(model, ids):
    """With a cache, as a server does it; the smallest gap between the best two on the way."""
    forget_length(model)
    inputs = torch.tensor([ids])
    out = model.generate(inputs, attention_mask=torch.ones_like(inputs),
                         max_new_tokens=NUM_GREEDY, do_sample=False, eos_token_id=None,
                         pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    gap = smallest_relative_gap(torch.cat(out.logits), 1)
    return out.sequences[0, len(ids):].tolist(), gap


def answer(model, ids):
    """Logits of all positions, greedy tokens, and the smallest gap that any choice hung on."""
    tokens, gap = greedy(model, ids)
    forget_length(model)
    with torch.no_grad():
        is_routed = hasattr(model.config, "num_experts_per_tok")
        routed = dict(output_router_logits=True) if is_routed else {}
        out = model(torch.tensor([ids]), **routed)
        whole = model(torch.tensor([ids + tokens]), **routed)
    if routed:
        for router_logits in (*out.router_logits, *whole.router_logits):
            gap = min(gap, smallest_relative_gap(router_logits, model.config.num_experts_per_tok))
    if model.config.rope_parameters["rope_type"] != "dynamic":
        assert whole.logits[0, len(ids) - 1:-1].argmax(-1).tolist() == tokens
    return out.logits[0].contiguous(), tokens, gap


def old_spelling(config):
    """config.json as transformers 4 wrote it."""
    config = dict(config)
    scaling = dict(config.pop("rope_parameters"))
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    if config["model_type"] != "mixtral" and "num_local_experts" in config:
        config["num_experts"] = config.pop("num_local_experts")
    config["transformers_version"] = "4.51.0"
    return config


def save_checkpoint(model, spec, directory):
    shutil.rmtree(directory, ignore_errors=True)
    stored = type(model)(model.config).to(getattr(torch, spec["dtype"]))
    stored.load_state_dict(model.state_dict())
    stored.save_pretrained(directory, max_shard_size=spec["shard_bytes"] or "1GB")
    path = directory / "config.json"
    config = json.loads(path.read_text())
    if spec["spelling"] == 4:
        config = old_spelling(config)
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, **PLAIN).eval()


def check_reloaded(directory, ids, logits):
    """What was written, read by transformers itself, gives the same logits."""
    model = load(directory)
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor([ids])).logits[0], logits)


def clear_answers(spec, seed, directory):
    """Model, prompts, answers and their smallest gap; None if a choice is nearly a tie."""
    model = build_model(spec, seed)
    if spec["fp8_block"]:
        model = store_as_fp8(model, spec, directory)
    random = torch.Generator().manual_seed(seed)
    prompts, answers = [], []
    for length in PROMPT_LENGTHS:
        ids = torch.randint(0, model.config.vocab_size, (length,), generator=random).tolist()
        prompts.append(ids)
        answers.append(answer(model, ids))
        if answers[-1][2] < SMALLEST_GAP:
            return None
    return model, prompts, answers, min(a[2] for a in answers)


def make_case(name, spec):
    directory = DATA / name
    found = (clear_answers(spec, seed, directory) for seed in range(1000))
    model, prompts, answers, gap = next(result for result in found if result)
    if not spec["fp8_block"]:
        save_checkpoint(model, spec, directory)
    tensors = {}
    for i, (ids, (logits, tokens, _)) in enumerate(zip(prompts, answers)):
        tensors[f"prompt.{i}.ids"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"prompt.{i}.logits"] = logits
        tensors[f"prompt.{i}.greedy"] = torch.tensor(tokens, dtype=torch.int32)
    safetensors.torch.save_file(tensors, directory / "golden.safetensors", versions())
    check_reloaded(directory, prompts[-1], answers[-1][0])
    for path in directory.iterdir():
        assert path.stat().st_size < MAX_FILE_BYTES, path
    print(f"{name}: smallest gap {gap:.1e}", flush=True)


def make_rotary(name, head_dim, max_position, rope_parameters):
    config = Qwen3MoeConfig(head_dim=head_dim, max_position_embeddings=max_position,
                            rope_parameters=rope_parameters)
    plain = transformers.models.qwen3_moe.modeling_qwen3_moe.Qwen3MoeRotaryEmbedding
    init = ROPE_INIT_FUNCTIONS.get(rope_parameters["rope_type"],
                                   plain.compute_default_rope_parameters)
    cos, sin, lengths = [], [], []
    for position in ROTARY_POSITIONS:
        frequencies, factor = init(config, seq_len=position + 1)
        angles = position * frequencies
        cos.append(angles.cos() * factor)
        sin.append(angles.sin() * factor)
        lengths.append(position + 1)
    directory = DATA / "rotary" / name
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model_type": "qwen3_moe", "head_dim": head_dim,
                       "max_position_embeddings": max_position,
                       "rope_parameters": rope_parameters}, indent=1)
    (directory / "config.json").write_text(text + "\n")
    safetensors.torch.save_file(
        {"positions": torch.tensor(ROTARY_POSITIONS, dtype=torch.int32),
         "lengths": torch.tensor(lengths, dtype=torch.int32),
         "cos": torch.stack(cos), "sin": torch.stack(sin)},
        directory / "rotary.safetensors", versions())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in parser.parse_args().cases:
        make_case(name, CASES[name])
    for name, setting in ROTARY.items():
        make_rotary(name, *setting)
    (DATA / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n")


if __name__ == "__main__":
    main()
