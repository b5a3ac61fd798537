#!/usr/bin/env python3
"""Writes a trained checkpoint as a Hugging Face model folder, in bf16."""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

import model
from tokenizer import END_OF_TEXT

HERE = pathlib.Path(__file__).parent


def tensors(state):
    """{published name: bf16 tensor}; the stacked experts come apart."""
    out = {}
    for name, value in state.items():
        value = value.detach().cpu().to(torch.bfloat16)
        name = name if name.startswith("lm_head") else f"model.{name}"
        if ".experts." in name:
            stem, projection = name.rsplit(".", 1)
            for expert, weights in enumerate(value):
                out[f"{stem}.{expert}.{projection}.weight"] = weights.contiguous()
        else:
            out[name] = value.contiguous()
    return out


def state_of(folder):
    """The training's parameters of an exported folder, and the tokens they have seen."""
    state, experts = {}, {}
    tokens = json.loads((folder / "config.json").read_text(encoding="utf-8"))["training_tokens"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():
            value, own = file.get_tensor(name).float(), name.removeprefix("model.")
            stem, found, rest = own.partition(".experts.")
            if found:
                expert, projection, _ = rest.split(".")
                experts.setdefault(f"{stem}.experts.{projection}", {})[int(expert)] = value
            else:
                state[own] = value
    for name, values in experts.items():
        state[name] = torch.stack([values[expert] for expert in sorted(values)])
    return state, tokens


def config(shape, tokenizer):
    """config.json's fields."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    fields = dict(
        architectures=["OlmoeForCausalLM" if shape.experts else "LlamaForCausalLM"],
        model_type="olmoe" if shape.experts else "llama",
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        rope_theta=shape.rope_theta,
        rope_scaling=None,
        rms_norm_eps=model.EPSILON,
        hidden_act="silu",
        attention_bias=False,
        attention_dropout=0.0,
        tie_word_embeddings=False,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=tokenizer.token_to_id("<|pad|>"),
        use_cache=True,
        torch_dtype="bfloat16",
    )
    if shape.experts:
        fields.update(
            num_experts=shape.experts,
            num_experts_per_tok=shape.chosen,
            norm_topk_prob=True,
            clip_qkv=None,
            output_router_logits=False,
            router_aux_loss_coef=0.01,
        )
    return fields


def write_tokenizer(source, out):
    """The training's tokenizer, with the end of another text before each prompt.

    The model has never seen a text begin without it.
    """
    fields = json.loads(source.read_text(encoding="utf-8"))
    end = next(each["id"] for each in fields["added_tokens"] if each["content"] == END_OF_TEXT)
    start, text = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}, "Sequence"
    fields["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, {text: {"id": "A", "type_id": 0}}],
        "pair": [start, {text: {"id": "A", "type_id": 0}}, {text: {"id": "B", "type_id": 1}}],
        "special_tokens": {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [end], "tokens": [END_OF_TEXT]}},
    }
    out.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write(path, fields):
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def export(checkpoint, tokenizer_path, out):
    """The whole folder; returns the number of bytes of the weights."""
    state = torch.load(checkpoint, map_location="cpu")
    shape = model.Shape(**state["shape"])
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    end = tokenizer.token_to_id(END_OF_TEXT)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors(state["model"]), out / "model.safetensors", metadata={"format": "pt"})
    seen = state["counters"]["before"] + state["counters"]["tokens"]
    _write(out / "config.json", dict(config(shape, tokenizer), training_tokens=seen))
    generation = dict(bos_token_id=end, eos_token_id=end, pad_token_id=end + 1)
    generation.update(do_sample=True, temperature=0.8, top_p=0.95)
    _write(out / "generation_config.json", generation)
    names = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token="<|pad|>",
        unk_token=None,
        add_bos_token=True,
        clean_up_tokenization_spaces=False,
        model_max_length=shape.context,
    )
    _write(out / "tokenizer_config.json", names)
    write_tokenizer(tokenizer_path, out / "tokenizer.json")
    shutil.copyfile(HERE / "chat_template.jinja", out / "chat_template.jinja")
    return (out / "model.safetensors").stat().st_size


def largest_difference(checkpoint, out):
    """Of logits: the training code with rounded weights, against transformers, both in f32."""
    import transformers  # Takes seconds to load.

    state = torch.load(checkpoint, map_location="cpu")
    ours = model.Model(model.Shape(**state["shape"]), seed=0)
    ours.load_state_dict({k: v.bfloat16().float() for k, v in state["model"].items()})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, ours.shape.vocabulary, (2, 300), generator=random)
    with torch.no_grad():
        return float((ours(ids) - theirs(ids).logits).abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="tokenizer.json")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the model folder")
    arguments = parser.parse_args()
    size = export(arguments.checkpoint, arguments.tokenizer, arguments.out)
    difference = largest_difference(arguments.checkpoint, arguments.out)
    print(f"{arguments.out}: {size} bytes; largest difference of logits {difference:.2e}")
    if difference > 1e-3:
        raise SystemExit("transformers computes something else from these files")


if __name__ == "__main__":
    main()
