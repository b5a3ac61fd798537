#!/usr/bin/env python3
"""The parts of tools/refactor against plain PyTorch. Skipped where there is no PyTorch."""

import argparse
import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import unittest

if any(importlib.util.find_spec(name) is None for name in ("torch", "safetensors", "tokenizers")):
    print("no PyTorch: skipped")
    sys.exit(77)

import numpy  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch.nn import functional as F  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tools/refactor"), str(ROOT / "tools/train")]

import card  # noqa: E402
import convert  # noqa: E402
import export  # noqa: E402
import masks  # noqa: E402
import predictor  # noqa: E402
import refactored  # noqa: E402
import rounds  # noqa: E402
import sample  # noqa: E402

CONFIG = dict(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=64,
    rope_theta=10000.0,
)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


class Masks(unittest.TestCase):
    def test_keeps_what_is_strictly_above_the_nth_largest(self):
        means = torch.tensor([[[4.0, 3.0, 2.0, 1.0, 0.5, 0.1]], [[4.0, 1.0, 3.0, 2.0, 0.5, 0.1]]])
        shared, own = masks.split(means)  # N = 3, so two of each are kept.
        self.assertEqual(shared.nonzero()[:, 1].tolist(), [0])
        self.assertEqual([each.nonzero()[:, 0].tolist() for each in own[0]], [[1], [2]])

    def test_a_file_gives_back_what_was_written(self):
        shared, own = masks.split(random(3, 2, 20).abs())
        with tempfile.TemporaryDirectory() as folder:
            masks.write(pathlib.Path(folder) / "mask.pt", shared, own)
            found = masks.read(pathlib.Path(folder) / "mask.pt")
        self.assertTrue(torch.equal(found[0], shared))
        self.assertTrue(torch.equal(found[1], own))


class Router(unittest.TestCase):
    def setUp(self):
        shape = predictor.PredictorShape(vocabulary=50, embedding=8, inner=8, experts=3, heads=2)
        torch.manual_seed(1)
        self.net = predictor.Predictor(shape)

    def test_has_as_many_parameters_as_published(self):
        with torch.device("meta"):
            net = predictor.Predictor(predictor.PredictorShape(vocabulary=32000, context=1))
        self.assertEqual(sum(each.numel() for each in net.parameters()), 17965063)

    def test_later_tokens_change_nothing(self):
        ids = torch.arange(20).view(1, -1)
        whole, part = self.net(ids), self.net(ids[:, :7])
        torch.testing.assert_close(whole[:, :7], part)

    def test_scores_are_divided_by_the_normalizer_alone(self):
        ids = torch.arange(20).view(1, -1)
        plain = self.net(ids)
        with torch.no_grad():
            self.net.q_proj_0.weight.mul_(4)
            self.net.q_proj_0.bias.mul_(4)
        self.net.shape = self.net.shape._replace(normalizer=4.0)
        torch.testing.assert_close(self.net(ids), plain)


class Model(unittest.TestCase):
    def setUp(self):
        self.shared, self.own = masks.split(random(3, 2, 12).abs())
        shape = refactored.predictor_shape(CONFIG, 3, 8)
        torch.manual_seed(1)
        self.net = refactored.Refactored(CONFIG, self.shared, self.own, shape, torch.float32)

    def test_a_masked_mlp_is_its_channels(self):
        mlp = self.net.backbone.layers[1].mlp
        with torch.no_grad():
            for matrix in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
                matrix.weight.copy_(random(*matrix.weight.shape))
        x, mlp.experts = random(1, 6, 16), torch.tensor([[0, 1, 2, 2, 1, 0]])
        out, _ = mlp(x)
        for token, expert in enumerate(mlp.experts[0]):
            kept = self.shared[1] | self.own[1, expert]
            gate, up = (each.weight[kept] for each in (mlp.gate_proj, mlp.up_proj))
            inner = F.silu(x[0, token] @ gate.T) * (x[0, token] @ up.T)
            wanted = inner @ mlp.down_proj.weight[:, kept].T
            torch.testing.assert_close(out[0, token], wanted, rtol=1e-4, atol=1e-5)

    def test_the_larger_half_of_the_channels_counts_for_an_overlap(self):
        dense = refactored.model.Model(refactored.dense_shape(CONFIG), 1)
        for layer in dense.layers:
            layer.mlp = refactored.ObservedMlp(dense.shape)
            with torch.no_grad():
                for matrix in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                    matrix.weight.copy_(random(*matrix.weight.shape))
        found = refactored.overlaps(dense, torch.arange(9).view(1, -1), self.own)
        wanted = 0
        for layer, own in zip(dense.layers, self.own):
            largest = torch.zeros(9, 12)
            largest.scatter_(1, layer.mlp.active[0].abs().topk(6).indices, 0.5)
            wanted = wanted + largest @ own.float().t() / own.sum(dim=1)
        torch.testing.assert_close(found[0], wanted)

    def test_the_parts_of_a_layer_are_its_channels(self):
        for fused in (False, True):
            state = {
                f"model.layers.0.mlp.{name}.weight": random(*shape)
                for name, shape in zip(convert.PROJECTIONS, ((12, 16), (12, 16), (16, 12)))
            }
            gate = state["model.layers.0.mlp.gate_proj.weight"]
            parts = convert.split_mlp(state, 0, self.shared[0], self.own[0], fused)
            self.assertEqual(state, {})
            self.assertEqual(len(parts), 9 if fused else 12)
            kept = self.own[0, 2] | self.shared[0] if fused else self.own[0, 2]
            found = parts["model.layers.0.moe.gate_proj_2.weight"]
            self.assertTrue(torch.equal(found, gate[kept]))


class Rounds(unittest.TestCase):
    """A little training, of a model that knows nothing, on numbers."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        vocabulary = {chr(33 + i): i for i in range(93)} | {rounds.END_OF_TEXT: 93}
        self.config = dict(CONFIG, vocab_size=94, max_position_embeddings=2048, training_tokens=0)
        (self.folder / "config.json").write_text(json.dumps(self.config))
        net = rounds.model.Model(refactored.dense_shape(self.config), 1)
        save_file(export.tensors(net.state_dict()), self.folder / "model.safetensors")
        masks.write(self.folder / "mask.pt", *masks.split(random(3, 2, 12).abs()))
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
        tokenizer.save(str(self.folder / "tokenizer.json"))
        numpy.save(self.folder / "tokens.npy", numpy.arange(20000, dtype=numpy.uint16) % 90)
        for side in ("train", "heldout"):
            (self.folder / side).mkdir()
            text = "".join(chr(33 + i % 90) for i in range(2048))
            (self.folder / f"{side}/numbers.txt").write_text(text)

    def test_learn_from_the_text_and_from_the_dense_model(self):
        for share in (0, 0.8):
            out = self.folder / f"out-{share}"
            out.mkdir()
            options = dict(dense=self.folder, masks=self.folder / "mask.pt", corpus=self.folder)
            options.update(out=out, tokens=32768, rounds=2, batch_tokens=2048, distil=share)
            options.update(embedding=8, seed=1, device="cpu", precision=torch.float32)
            with contextlib.redirect_stdout(io.StringIO()):
                rounds.Rounds(argparse.Namespace(**options)).run()
            log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            self.assertEqual([each["steps"] for each in log], [2, 6, 2, 6])
            bits = [each["heldout_bits_per_byte"] for each in log]
            self.assertLess(bits[3], bits[0])
            state = torch.load(out / "checkpoint.pt")
            self.assertEqual(state["tokens"], log[bits.index(min(bits[1], bits[3]))]["tokens"])


class Sample(unittest.TestCase):
    def test_documents_are_spaced_evenly(self):
        texts = [str(number) * 10 for number in range(10)]
        self.assertEqual(sample.sample(texts, 20), [texts[0], texts[5]])
        self.assertEqual(sample.sample(texts, 1000), texts)


class Card(unittest.TestCase):
    def test_says_the_widths_the_rounds_and_the_quality(self):
        found = {"model.layers.0.moe.gate_proj_residual.weight": [3, 8]}
        for expert, width in enumerate((5, 4)):
            found[f"model.layers.0.moe.gate_proj_{expert}.weight"] = [width, 8]
        self.assertIn("| 0 | 3 | 5, 4 |", card.widths_table(found, layers=1, experts=2))
        log = [
            dict(round=0, phase="router", tokens=10, heldout_bits_per_byte=2.0, agreement=0.5),
            dict(round=0, phase="experts", tokens=40, heldout_bits_per_byte=1.5),
        ]
        self.assertEqual(
            card.rounds_table(log).splitlines()[2:],
            ["| 0 | router | 10 | 2.0000 | 0.500 |", "| 0 | experts | 40 | 1.5000 |  |"],
        )
        evals = [
            dict(texts=dict(c=dict(bits_per_byte=bits)), all=dict(bits_per_byte=bits + 1))
            for bits in (1.0, 1.25, 1.5)
        ]
        self.assertEqual(
            card.results_table(evals[:2]).splitlines()[2:],
            ["| c | 1.0000 | 1.2500 |", "| all | 2.0000 | 2.2500 |"],
        )
        self.assertIn("| all | 2.0000 | 2.2500 | 2.5000 |", card.results_table(evals))
        config = dict(intermediate_size=512)
        self.assertIn("no dense model of that size", card.comparison(evals[:2], config))
        self.assertIn("takes 10.0 % fewer bits", card.comparison(evals, config))


if __name__ == "__main__":
    unittest.main()
