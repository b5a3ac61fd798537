#!/usr/bin/env python3
"""Writes tests/golden/data/torch: small files as torch.save writes them, good and to be refused.

Needs torch; the tests need only what is written. The same version of torch writes the same bytes,
except for old_form.pt, in which keys are addresses.
"""

import collections
import json
import os
import pathlib
import shutil
import zipfile

import torch

DATA = pathlib.Path(__file__).parent / "data" / "torch"


def mask():
    """Masks as Read-ME publishes them: of each projection one vector that all experts keep, and
    one per expert."""
    result = {}
    for layer in range(2):
        for p, projection in enumerate(("gate_proj", "up_proj", "down_proj")):
            def vector(k):
                bits = [(i * (k + 2) + layer + p) % 3 == 0 for i in range(11)]
                return torch.tensor(bits).half()
            name = f"module.model.layers.{layer}.mlp.{projection}"
            result[name] = {"residual": vector(7), **{k: vector(k) for k in range(7)}}
    return result


def ramp(*shape, dtype=torch.float32):
    """0, 1, 2, ... in halves."""
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float64) / 2).to(dtype).reshape(shape)


def state_dict():
    module = torch.nn.Linear(3, 2)
    module.weight.data = ramp(2, 3)
    module.bias.data = ramp(2)
    state = module.state_dict()  # an OrderedDict with an attribute _metadata
    shared = ramp(10)
    state["first_half"] = shared[:5]
    state["second_half"] = shared[5:].view(5, 1)
    state["tied"] = state["weight"]
    state["parameter"] = torch.nn.Parameter(ramp(4))
    state["f16"] = ramp(2, 2, dtype=torch.float16)
    state["bf16"] = ramp(2, 2, dtype=torch.bfloat16)
    state["scalar"] = torch.tensor(1.5)
    state["empty"] = torch.empty(0, 4)
    return state


def every_type():
    types = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8,
             torch.int8, torch.int16, torch.int32, torch.int64, torch.complex64, torch.complex128)
    return {str(dtype).removeprefix("torch."): torch.tensor([0, 1, 1], dtype=dtype)
            for dtype in types}


def containers():
    twice = ["shared"]
    return {
        "none": None, "true": True, "false": False, "zero": 0, "byte": 255, "short": 65535,
        "int": -70000, "long": -2**63, "float": -0.1, "text": "naïve 数", "long text": "x" * 300,
        "list": [1, [2, []]], "tuple": (1, (2, 3), ()), "many": list(range(2500)), -3: "negative",
        "ordered": collections.OrderedDict(b=1, a=2), "twice": [twice, twice],
    }


def not_contiguous():
    base = ramp(4, 6)
    return {"transposed": base.t(), "every_other_row": base[::2], "columns": base[:, 1:3],
            "expanded": torch.ones(1).expand(3, 2), "row": base[2:3]}


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def write_shards(tensors):
    directory = DATA / "sharded"
    directory.mkdir()
    names = list(tensors)
    halves = (names[:5], names[5:])
    weight_map = {}
    for i, half in enumerate(halves, start=1):
        file = f"pytorch_model-{i:05}-of-{len(halves):05}.bin"
        torch.save({name: tensors[name] for name in half}, directory / file)
        weight_map |= dict.fromkeys(half, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")


def repack(source, target, method=zipfile.ZIP_STORED, **changed):
    """Copies a file with entries changed by the last part of their name, or left out (None)."""
    with zipfile.ZipFile(DATA / source) as old, zipfile.ZipFile(DATA / target, "w", method) as new:
        for info in old.infolist():
            data = changed.get(info.filename.split("/")[-1], old.read(info))
            if data is not None:
                new.writestr(zipfile.ZipInfo(info.filename), data, method)


def main():
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    torch.save(mask(), DATA / "mask.pt")
    torch.save(state_dict(), DATA / "state_dict.pt")
    torch.save(every_type(), DATA / "every_type.pt")
    for protocol in range(2, 6):
        torch.save(containers(), DATA / f"containers_{protocol}.pt", pickle_protocol=protocol)
    torch.save(state_dict(), DATA / "state_dict_4.pt", pickle_protocol=4)
    torch.save(not_contiguous(), DATA / "not_contiguous.pt")
    write_shards(state_dict())
    torch.save(ramp(3), DATA / "old_form.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.ReLU(), DATA / "module.pt")
    torch.save({"a": Evil()}, DATA / "evil.pt")
    torch.save({"a": Evil()}, DATA / "evil_4.pt", pickle_protocol=4)
    torch.save({"a": ramp(3)}, DATA / "little.pt")
    repack("little.pt", "no_byteorder.pt", byteorder=None)  # as before PyTorch 2.1
    repack("little.pt", "big_endian.pt", byteorder=b"big")
    repack("little.pt", "compressed.pt", zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
