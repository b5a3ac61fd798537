#!/usr/bin/env python3
"""Writes the cases readme_* of tests/golden/data: a refactored Llama in its three published forms.

The backbone is transformers' Llama with the down projection's input masked by each token's expert;
the router is written here from the equations of arXiv 2410.19123 and the published code's names,
with the whole prefix computed each time, and shares nothing with tools/refactor. The files are as
make_golden.py describes, and beside them
    prompt.<i>.experts   i32 [n]
and in readme_unfused/router.safetensors the router alone on 1,000 prompts: ids and experts i32
[all], starts i32 [1000]. Prompts where the best two experts are nearly tied are left out.
"""

import json
import math
import os
import shutil

import safetensors.torch
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from make_golden import (DATA, NUM_GREEDY, PROMPT_LENGTHS, SMALLEST_GAP,
                         smallest_relative_gap, versions)

EXPERTS, EMBEDDING, HEADS = 7, 24, 4
VOCABULARY, HIDDEN, CHANNELS, LAYERS = 128, 48, 45, 3
NUM_ROUTER_PROMPTS, LONGEST_PROMPT = 1000, 24
LINEARS = ("q_proj_0", "k_proj_0", "v_proj_0", "o_proj_0", "proj_1_0", "proj_2_0", "proj_out")
NORMS = ("input_layernorm_0", "post_attention_layernorm_0", "out_layernorm")


def rounded(tensor):
    return tensor.bfloat16().float()


def make_router(random):
    weights = {"embed.weight": rounded(torch.randn(VOCABULARY, EMBEDDING, generator=random))}
    for name in LINEARS:
        rows = EXPERTS if name == "proj_out" else EMBEDDING
        matrix = torch.randn(rows, EMBEDDING, generator=random) / EMBEDDING ** 0.5
        weights[f"{name}.weight"] = rounded(matrix)
        weights[f"{name}.bias"] = rounded(0.1 * torch.randn(rows, generator=random))
    for name in NORMS:
        weights[f"{name}.weight"] = rounded(1 + 0.1 * torch.randn(EMBEDDING, generator=random))
    return weights


def router_logits(weights, ids):
    """Of one prompt: [n, EXPERTS]."""
    n, size = len(ids), EMBEDDING // HEADS

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        return x / torch.sqrt((x * x).mean(dim=1, keepdim=True) + 1e-6) * weights[f"{name}.weight"]

    def rotated(x):
        angles = torch.arange(n).double()[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
        cos, sin = angles.cos().float(), angles.sin().float()
        a, b = x[:, : size // 2], x[:, size // 2 :]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=1)

    x = weights["embed.weight"][ids]
    y = norm("input_layernorm_0", x)
    q, k, v = (linear(name, y) for name in ("q_proj_0", "k_proj_0", "v_proj_0"))
    mixed = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = rotated(q[:, part]) @ rotated(k[:, part]).T  # divided by the normalizer, 1
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        mixed.append(scores.softmax(dim=1) @ v[:, part])
    x = x + linear("o_proj_0", torch.cat(mixed, dim=1))
    inner = linear("proj_1_0", norm("post_attention_layernorm_0", x))
    x = x + linear("proj_2_0", inner * torch.sigmoid(inner))
    return linear("proj_out", norm("out_layernorm", x))


def make_masks(random):
    """Per layer bool (shared [channels], own [experts, channels]): every expert has 22 in all."""
    masks = []
    for layer in range(LAYERS):
        kept = torch.zeros(EXPERTS, CHANNELS, dtype=torch.bool)
        order = torch.randperm(CHANNELS, generator=random)
        kept[:, order[: 9 + layer]] = True
        for expert in range(EXPERTS):
            rest = order[9 + layer :][torch.randperm(CHANNELS - 9 - layer, generator=random)]
            kept[expert, rest[: 13 - layer]] = True
        shared = kept.all(dim=0)
        masks.append((shared, kept & ~shared))
    return masks


def make_backbone(random):
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=CHANNELS,
                         num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=128, bos_token_id=None, eos_token_id=None,
                         attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            scale = 1.0 if "embed" in name else parameter.shape[-1] ** -0.5
            parameter.copy_(rounded(1 + 0.1 * noise if parameter.dim() < 2 else scale * noise))
    return model


class Refactored:
    """Logits of all positions for a prompt."""

    def __init__(self, seed):
        random = torch.Generator().manual_seed(seed)
        self.router, self.masks = make_router(random), make_masks(random)
        self.model = make_backbone(random)
        self.random, self.experts = random, None
        for layer, (shared, own) in zip(self.model.model.layers, self.masks):
            layer.mlp.down_proj.register_forward_pre_hook(
                lambda _, inputs, kept=own | shared: (inputs[0] * kept[self.experts].float(),))

    @torch.no_grad()
    def logits(self, ids):
        scores = router_logits(self.router, ids)
        self.experts = scores.argmax(dim=1)
        return self.model(torch.tensor([ids])).logits[0], smallest_relative_gap(scores, 1)

    def greedy(self, ids):
        tokens, gap = list(ids), math.inf
        for _ in range(NUM_GREEDY):
            logits, router_gap = self.logits(tokens)
            gap = min(gap, router_gap, smallest_relative_gap(logits[-1:], 1))
            tokens.append(int(logits[-1].argmax()))
        return tokens[len(ids):], gap


def answers(seed):
    """(the model, tensors of golden.safetensors); None if a choice is nearly a tie."""
    net, tensors = Refactored(seed), {}
    for i, length in enumerate(PROMPT_LENGTHS):
        ids = torch.randint(0, VOCABULARY, (length,), generator=net.random).tolist()
        tokens, gap = net.greedy(ids)
        if gap < SMALLEST_GAP:
            return None
        tensors[f"prompt.{i}.ids"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"prompt.{i}.logits"] = net.logits(ids)[0].contiguous()
        tensors[f"prompt.{i}.greedy"] = torch.tensor(tokens, dtype=torch.int32)
        tensors[f"prompt.{i}.experts"] = net.experts.int()
    return net, tensors


def router_prompts(net):
    ids, experts, starts = [], [], []
    while len(starts) < NUM_ROUTER_PROMPTS:
        length = int(torch.randint(1, LONGEST_PROMPT + 1, (1,), generator=net.random))
        prompt = torch.randint(0, VOCABULARY, (length,), generator=net.random).tolist()
        scores = router_logits(net.router, prompt)
        if smallest_relative_gap(scores, 1) < SMALLEST_GAP:
            continue
        starts.append(len(ids))
        ids += prompt
        experts += scores.argmax(dim=1).tolist()
    values = dict(ids=ids, experts=experts, starts=starts)
    return {name: torch.tensor(value, dtype=torch.int32) for name, value in values.items()}


def converted(state, masks, fused):
    """The published names of the converted forms."""
    state = dict(state)
    for layer, (shared, own) in enumerate(masks):
        for name in ("gate_proj", "up_proj", "down_proj"):
            weight = state.pop(f"model.layers.{layer}.mlp.{name}.weight")
            channels = [own_one | shared if fused else own_one for own_one in own]
            owners = [(str(expert), kept) for expert, kept in enumerate(channels)]
            owners += [] if fused else [("residual", shared)]
            for owner, kept in owners:
                part = weight[:, kept] if name == "down_proj" else weight[kept]
                state[f"model.layers.{layer}.moe.{name}_{owner}.weight"] = part.contiguous()
    return state


def published_masks(masks):
    out = {}
    for layer, (shared, own) in enumerate(masks):
        entry = {"residual": shared.half()}
        entry.update({expert: each.half() for expert, each in enumerate(own)})
        out[f"module.model.layers.{layer}.mlp.down_proj"] = entry
    return out


class Code:
    """Pickled, it would run a command."""

    def __reduce__(self):
        return (os.system, ("touch pickle-was-run",))


def save_bad_masks(masks, folder):
    """mask.pt as it must not be."""
    folder.mkdir()

    def save_changed(name, change):
        changed = published_masks(masks)
        change(changed, changed["module.model.layers.1.mlp.down_proj"])
        torch.save(changed, folder / f"{name}.pt")

    save_changed("too_many", lambda _, layer: layer.update({EXPERTS: layer[0]}))
    save_changed("too_few", lambda _, layer: layer.pop(EXPERTS - 1))
    save_changed("overlap", lambda _, layer: layer.update({3: layer["residual"].clone()}))
    save_changed("short", lambda _, layer: layer.update({2: layer[2][:-1].clone()}))
    save_changed("empty", lambda _, layer: layer.update({2: layer[2] * 0}))
    save_changed("half", lambda _, layer: layer.update({2: layer[2] * 0.5}))
    save_changed("no_layer", lambda all, _: all.pop("module.model.layers.2.mlp.down_proj"))
    save_changed("code", lambda _, layer: layer.update({"residual": Code()}))


def save(net, tensors, form):
    directory = DATA / f"readme_{form}"
    shutil.rmtree(directory, ignore_errors=True)
    folder = directory / "checkpoint" if form == "masked" else directory
    folder.mkdir(parents=True)
    state = {name: value.bfloat16() for name, value in net.model.state_dict().items()}
    state.update({f"cluster_predictor.{k}": v.bfloat16() for k, v in net.router.items()})
    if form == "masked":
        torch.save(state, folder / "pytorch_model.bin")
        torch.save(published_masks(net.masks), folder / "mask.pt")
        save_bad_masks(net.masks, directory / "bad_masks")
    else:
        state = converted(state, net.masks, fused=form == "fused")
        safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = net.model.config.to_dict()
    config.update(architectures=["LlamaForCausalLM"], add_cluster_predictor=True,
                  train_predictor=False, embedding_dim=EMBEDDING, inter_dim=EMBEDDING,
                  N_cluster=EXPERTS, hidden_act_predictor="silu",
                  max_position_embeddings_predictor=128, n_head=HEADS, n_layer=1, normalizer=1,
                  nonautoregressive=False)
    text = json.dumps(config, indent=1, sort_keys=True, default=str)
    (folder / "config.json").write_text(text + "\n")
    safetensors.torch.save_file(tensors, directory / "golden.safetensors", versions())


def main():
    torch.set_num_threads(1)
    net, tensors = next(found for found in map(answers, range(1000)) if found)
    for form in ("masked", "fused", "unfused"):
        save(net, tensors, form)
    safetensors.torch.save_file(router_prompts(net), DATA / "readme_unfused/router.safetensors",
                                versions())


if __name__ == "__main__":
    main()
