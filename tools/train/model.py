"""The two models as lean f32 PyTorch: OLMoE's architecture and its dense sibling, Llama's.

Parameter names are Hugging Face's, but for the experts, which are stacked: one tensor [experts,
out, in] per projection. transformers gives the same logits (test_export.py).
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

EPSILON = 1e-5


class Shape(NamedTuple):
    """What config.json says; experts = 0 is the dense model."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 64
    experts: int = 32
    chosen: int = 4
    context: int = 1024
    rope_theta: float = 10000.0


MOE = Shape()
DENSE = Shape(intermediate=768, experts=0, chosen=0)


class GroupedLinear(torch.autograd.Function):
    """Rows sorted by expert times the weights of their expert: a plain matmul per expert."""

    @staticmethod
    def forward(ctx, rows, weights, ends):
        out = rows.new_empty(rows.shape[0], weights.shape[1])
        start = 0
        for expert, end in enumerate(ends):
            torch.mm(rows[start:end], weights[expert].t(), out=out[start:end])
            start = end
        ctx.save_for_backward(rows, weights)
        ctx.ends = ends
        return out

    @staticmethod
    def backward(ctx, grad):
        rows, weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_rows, grad_weights = torch.empty_like(rows), torch.empty_like(weights)
        start = 0
        for expert, end in enumerate(ctx.ends):
            torch.mm(grad[start:end], weights[expert], out=grad_rows[start:end])
            torch.mm(grad[start:end].t(), rows[start:end], out=grad_weights[expert])
            start = end
        return grad_rows, grad_weights, None


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, EPSILON)


def rotate(x, cos, sin):
    """Rotary positions on [batch, heads, length, head size]; halves, as Hugging Face pairs them."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads = shape.heads
        hidden = shape.hidden
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, hidden, bias=False)
        self.v_proj = nn.Linear(hidden, hidden, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)
        if shape.experts:
            self.q_norm, self.k_norm = RMSNorm(hidden), RMSNorm(hidden)
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape

        def split(y):
            return y.view(batch, length, self.heads, -1).transpose(1, 2)

        query = rotate(split(self.q_norm(self.q_proj(x))), cos, sin)
        key = rotate(split(self.k_norm(self.k_proj(x))), cos, sin)
        mixed = F.scaled_dot_product_attention(query, key, split(self.v_proj(x)), is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, hidden))


class DenseMlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)), None


class Experts(nn.Module):
    """The stacked weights; forward takes rows sorted by expert."""

    def __init__(self, shape):
        super().__init__()
        count, hidden, inner = shape.experts, shape.hidden, shape.intermediate
        self.gate_proj = nn.Parameter(torch.empty(count, inner, hidden))
        self.up_proj = nn.Parameter(torch.empty(count, inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(count, hidden, inner))

    def forward(self, rows, ends):
        gate = GroupedLinear.apply(rows, self.gate_proj, ends)
        up = GroupedLinear.apply(rows, self.up_proj, ends)
        return GroupedLinear.apply(F.silu(gate) * up, self.down_proj, ends)


class SparseMlp(nn.Module):
    """A token goes to the experts of largest probability, weighted by it, made to sum to one."""

    def __init__(self, shape):
        super().__init__()
        self.chosen, self.count = shape.chosen, shape.experts
        self.gate = nn.Linear(shape.hidden, shape.experts, bias=False)
        self.experts = Experts(shape)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        logits = self.gate(tokens)
        probabilities = logits.softmax(dim=-1)
        weights, choice = probabilities.topk(self.chosen, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        order = choice.flatten().argsort(stable=True)
        counts = torch.bincount(choice.flatten(), minlength=self.count)
        source = order // self.chosen
        out = self.experts(tokens.index_select(0, source), counts.cumsum(0).tolist())
        out = out * weights.flatten().index_select(0, order).unsqueeze(1)
        mixed = torch.zeros_like(tokens).index_add(0, source, out)
        return mixed.view_as(x), self._routing(logits, probabilities, counts)

    def _routing(self, logits, probabilities, counts):
        """Balance loss (1 when even), router z-loss, load of the busiest expert over the mean."""
        load = counts.float() / counts.sum()
        balance = self.count * (load * probabilities.mean(dim=0)).sum()
        z_loss = logits.logsumexp(dim=-1).square().mean()
        return torch.stack((balance, z_loss, load.max() * self.count))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden)
        self.mlp = SparseMlp(shape) if shape.experts else DenseMlp(shape)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        change, routing = self.mlp(self.post_attention_layernorm(x))
        return x + change, routing


class Model(nn.Module):
    """ids [batch, length] to the mean loss of `targets`, or to logits without them."""

    def __init__(self, shape, seed):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        size = shape.hidden // shape.heads
        frequency = shape.rope_theta ** (-torch.arange(0, size, 2).double() / size)
        angle = torch.arange(shape.context).double()[:, None] * frequency
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        self._initialise(seed)

    @torch.no_grad()
    def _initialise(self, seed):
        """Drawn on the CPU, so that a seed means the same on every device."""
        random = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            noise = torch.randn(parameter.shape, generator=random)
            scale = parameter.shape[-1] ** -0.5
            if "embed_tokens" in name:
                scale = 0.5
            elif "lm_head" in name or name.endswith("mlp.gate.weight"):
                scale *= 0.2
            elif "o_proj" in name or "down_proj" in name:
                scale = 0.0
            parameter.copy_(noise * scale)

    def forward(self, ids, targets=None):
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x, routing = self.embed_tokens(ids), []
        for layer in self.layers:
            x, facts = layer(x, cos, sin)
            routing.append(facts)
        logits = self.lm_head(self.norm(x))
        if targets is None:
            return logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return loss, torch.stack(routing) if self.shape.experts else None
