#!/usr/bin/env python3
"""The arithmetic of tools/train against plain PyTorch. Skipped where there is no PyTorch."""

import importlib.util
import pathlib
import sys
import tempfile
import unittest

if any(importlib.util.find_spec(name) is None for name in ("torch", "safetensors", "tokenizers")):
    print("no PyTorch: skipped")
    sys.exit(77)

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch.nn import functional as F  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools/train"))

import data  # noqa: E402
import export  # noqa: E402
import graphs  # noqa: E402
import model  # noqa: E402
import optimizer  # noqa: E402

SMALL = model.Shape(
    vocabulary=50, hidden=16, layers=2, heads=2, intermediate=6, experts=5, chosen=2, context=300
)


def gradients(output, *inputs):
    """Of a weighted sum of `output`, which makes every element count differently."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    return torch.autograd.grad((output * weights).sum(), inputs)


def random(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, requires_grad=True)


class Arithmetic(unittest.TestCase):
    def assert_close(self, found, wanted):
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    def test_loss(self):
        x, output = random(600, 16), random(50, 16)
        targets = torch.arange(600) % 50
        found = model.Loss.apply(x, output, targets)
        wanted = F.cross_entropy(x @ output.t(), targets)
        self.assert_close([found], [wanted])
        self.assert_close(gradients(found, x, output), gradients(wanted, x, output))

    def test_loss_beside_a_teacher(self):
        x, output, other = random(600, 16), random(50, 16), random(600, 8).detach()
        targets, taught = torch.arange(600) % 50, random(50, 8).detach()
        found = model.Loss.apply(x, output, targets, model.Teacher(other, taught, 0.7))
        logits = x @ output.t()
        shares = (other @ taught.t()).softmax(dim=1)
        wanted = 0.3 * F.cross_entropy(logits, targets) + 0.7 * F.cross_entropy(logits, shares)
        self.assert_close([found], [wanted])
        self.assert_close(gradients(found, x, output), gradients(wanted, x, output))

    def test_experts(self):
        tokens, weights = random(40, 16), random(40, 2)
        gate_up, down = random(5, 12, 16), random(5, 16, 6)
        choice = torch.stack((torch.arange(40) % 3, 3 + torch.arange(40) % 2), dim=1)
        choice[:20] -= choice[:20] // 4  # Expert 4 gets fewer, and the counts differ.
        order = choice.flatten().argsort(stable=True)
        ends = torch.bincount(choice.flatten(), minlength=5).cumsum(0).tolist()
        found = model.ExpertMlp.apply(tokens, weights, gate_up, down, order, ends)
        gate, up = torch.einsum("th,tcih->tci", tokens, gate_up[choice]).chunk(2, dim=2)
        wanted = torch.einsum("tci,tchi,tc->th", F.silu(gate) * up, down[choice], weights)
        inputs = (tokens, weights, gate_up, down)
        self.assert_close([found], [wanted])
        self.assert_close(gradients(found, *inputs), gradients(wanted, *inputs))

    @unittest.skipUnless(torch.cuda.is_available(), "no GPU")
    def test_experts_on_a_gpu(self):
        """Its kernels against the CPU's loop, also with an expert that has no rows."""
        rows, left = (random(600, size).detach().bfloat16() for size in (64, 32))
        weights, ends = random(5, 64, 32).detach().bfloat16(), [100, 101, 400, 400, 600]
        found = [
            model.times_each(rows.cuda(), weights.cuda(), torch.tensor(ends).int().cuda()),
            model.times_transposed(rows.cuda(), left.cuda(), torch.tensor(ends).int().cuda()),
        ]
        wanted = [model.times_each(rows, weights, ends), model.times_transposed(rows, left, ends)]
        for a, b in zip(found, wanted):
            torch.testing.assert_close(a.cpu(), b, rtol=0.02, atol=0.2)

    def test_attention(self):
        query, key, value = random(3, 300, 8), random(3, 300, 8), random(3, 300, 8)
        found = model.attend(query, key, value)
        wanted = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        self.assert_close([found], [wanted])
        inputs = (query, key, value)
        self.assert_close(gradients(found, *inputs), gradients(wanted, *inputs))

    def test_muon_steps_have_singular_values_of_about_one(self):
        for shape in ((3, 16, 16), (2, 8, 32), (2, 32, 8)):
            step = optimizer.orthogonal(random(*shape).detach(), torch.float32)
            values = torch.linalg.svdvals(step)
            self.assertLess(float((values - 1).abs().max()), 0.6)


class Steps(unittest.TestCase):
    @unittest.skipUnless(torch.cuda.is_available(), "no GPU")
    def test_replayed_ones_are_those_of_before(self):
        """Rows of two lengths, and rates that change."""

        def losses(graphed):
            net = model.Model(SMALL._replace(experts=0, chosen=0), 1).cuda()
            rates = dict(matrices=0.01, embedding=0.002, output=0.002, rest=0.001)
            optimizers = optimizer.build(net, rates, torch.float32, graphed)

            def compute(inputs, targets):
                for each in optimizers:
                    each.zero_grad()
                loss, _ = net(inputs, targets)
                loss.backward()
                for each in optimizers:
                    each.step()
                return (loss.detach(),)

            step = graphs.Replayed(compute) if graphed else compute
            for i in range(24):
                optimizer.set_rates(optimizers, 1 / (1 + i))
                ids = torch.arange(256).view(-1, 64 if i < 12 else 128) * (1 + i % 3) % 50
                yield float(step(ids.cuda(), ids.cuda())[0])
            if graphed:
                self.assertEqual(len(step.graphs), 2)

        found, wanted = (torch.tensor(list(losses(graphed))) for graphed in (True, False))
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
        self.assertLess(found[-1], found[0])


class Data(unittest.TestCase):
    def test_a_batch_goes_on_where_an_earlier_run_stopped(self):
        tokens = torch.arange(20 * data.BLOCK).numpy().astype("uint16")
        first, second = (data.Batches(tokens, 0, seed=1) for _ in range(2))
        for _ in range(2):
            first.next(data.BLOCK)
        second.skip(2 * data.BATCH_TOKENS)
        self.assertTrue(torch.equal(first.next(data.BLOCK)[1], second.next(data.BLOCK)[1]))

    def test_smaller_batches_hold_the_same_rows(self):
        tokens = torch.arange(20 * data.BLOCK).numpy().astype("uint16")
        whole = data.Batches(tokens, 0, seed=1)
        parts = data.Batches(tokens, 0, seed=1, batch_tokens=data.BATCH_TOKENS // 2)
        wanted = whole.next(data.BLOCK)[1]
        self.assertTrue(torch.equal(torch.cat([parts.next(data.BLOCK)[1] for _ in "ab"]), wanted))


class Export(unittest.TestCase):
    def test_a_folder_gives_back_what_was_trained(self):
        state = {k: v.bfloat16().float() for k, v in model.Model(SMALL, 1).state_dict().items()}
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            save_file(export.tensors(state), folder / "model.safetensors")
            (folder / "config.json").write_text('{"training_tokens": 123}')
            found, tokens = export.state_of(folder)
        self.assertEqual(tokens, 123)
        self.assertEqual(found.keys(), state.keys())
        self.assertTrue(all(torch.equal(found[name], state[name]) for name in state))


class Depth(unittest.TestCase):
    def test_new_layers_change_nothing_at_first(self):
        shallow = model.Model(SMALL, 1)
        with torch.no_grad():  # Outputs are zero in a new model.
            for parameter in shallow.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
        deep = model.Model(SMALL._replace(layers=3), 2)
        deep.load_state_dict(model.deepened(shallow.state_dict(), 3))
        ids = torch.arange(40).view(1, -1)
        with torch.no_grad():
            torch.testing.assert_close(deep(ids), shallow(ids), rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
