#!/usr/bin/env python3
"""Writes the refactored model as a folder to serve, in one of the three published forms.

unfused: shared channels once per layer and each expert's own; what an expert-parallel cluster
wants. fused: each expert with the shared channels. masked: the dense model as it is, and mask.pt.
"""

import argparse
import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "train"))

import masks  # noqa: E402
from predictor import PredictorShape  # noqa: E402

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
COPIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def of_channels(name, weight, channels):
    """The rows of gate and up, or the columns of down, that belong to `channels` (bool)."""
    return weight[:, channels] if name == "down_proj" else weight[channels]


def split_mlp(state, layer, shared, own, fused):
    """{published name: weights} of a layer's experts, out of its dense MLP."""
    out, stem = {}, f"model.layers.{layer}.moe"
    for name in PROJECTIONS:
        weight = state.pop(f"model.layers.{layer}.mlp.{name}.weight")
        if not fused:
            out[f"{stem}.{name}_residual.weight"] = of_channels(name, weight, shared)
        for expert, channels in enumerate(own):
            kept = channels | shared if fused else channels
            out[f"{stem}.{name}_{expert}.weight"] = of_channels(name, weight, kept)
    return out


def published(checkpoint):
    """bf16 tensors under the names of the masked dense form."""
    state = {}
    for name, value in checkpoint["backbone"].items():
        state[name if name.startswith("lm_head") else f"model.{name}"] = value
    for name, value in checkpoint["predictor"].items():
        state[f"cluster_predictor.{name}"] = value
    return {name: value.cpu().to(torch.bfloat16).contiguous() for name, value in state.items()}


def config_fields(dense, shape, tokens):
    """config.json of the dense model and the published fields of the router."""
    return dict(
        dense,
        training_tokens=dense["training_tokens"] + tokens,
        add_cluster_predictor=True,
        train_predictor=False,
        embedding_dim=shape.embedding,
        inter_dim=shape.inner,
        N_cluster=shape.experts,
        hidden_act_predictor="silu",
        max_position_embeddings_predictor=shape.context,
        n_head=shape.heads,
        n_layer=1,
        normalizer=shape.normalizer,
        nonautoregressive=False,
    )


def convert(arguments):
    checkpoint = torch.load(arguments.checkpoint, map_location="cpu")
    shape = PredictorShape(**checkpoint["predictor_shape"])
    dense = json.loads((arguments.dense / "config.json").read_text())
    arguments.out.mkdir(parents=True, exist_ok=True)
    state = published(checkpoint)
    if arguments.form == "masked":
        torch.save(state, arguments.out / "pytorch_model.bin")
        shutil.copyfile(arguments.masks, arguments.out / "mask.pt")
    else:
        shared, own = masks.read(arguments.masks)
        for layer in range(len(shared)):
            masks_of_layer = (shared[layer], own[layer])
            state.update(split_mlp(state, layer, *masks_of_layer, arguments.form == "fused"))
        state = {name: value.contiguous() for name, value in state.items()}
        save_file(state, arguments.out / "model.safetensors", metadata={"format": "pt"})
    fields = config_fields(dense, shape, checkpoint["tokens"])
    (arguments.out / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    for name in COPIED:
        shutil.copyfile(arguments.dense / name, arguments.out / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="of rounds.py")
    parser.add_argument("--dense", type=pathlib.Path, required=True, help="the dense folder")
    parser.add_argument("--masks", type=pathlib.Path, required=True, help="mask.pt")
    parser.add_argument("--form", choices=("unfused", "fused", "masked"), default="unfused")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the model folder")
    convert(parser.parse_args())


if __name__ == "__main__":
    main()
