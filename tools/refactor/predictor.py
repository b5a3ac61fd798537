"""Read-ME's pre-gating router: token ids in, one expert per token for all layers.

The equations of arXiv 2410.19123 as its published code has them, names included: one attention
layer of its own over an embedding of its own, scores divided by `normalizer`, no gate in the MLP,
biases everywhere.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from model import rotate

EPSILON = 1e-6


class PredictorShape(NamedTuple):
    """The fields of config.json, under their published names where those say what they are."""

    vocabulary: int
    embedding: int = 512
    inner: int = 512
    experts: int = 7
    heads: int = 4
    normalizer: float = 1.0
    rope_theta: float = 10000.0
    context: int = 2048


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, EPSILON)


class Predictor(nn.Module):
    """ids [batch, length] to logits [batch, length, experts]."""

    def __init__(self, shape):
        super().__init__()
        self.shape, size, inner = shape, shape.embedding, shape.inner
        self.embed = nn.Embedding(shape.vocabulary, size)
        self.input_layernorm_0, self.post_attention_layernorm_0 = Norm(size), Norm(size)
        self.q_proj_0, self.k_proj_0 = nn.Linear(size, inner), nn.Linear(size, inner)
        self.v_proj_0, self.o_proj_0 = nn.Linear(size, inner), nn.Linear(inner, size)
        self.proj_1_0, self.proj_2_0 = nn.Linear(size, inner), nn.Linear(inner, size)
        self.out_layernorm = Norm(size)
        self.proj_out = nn.Linear(size, shape.experts)
        half = torch.arange(0, inner // shape.heads, 2).double() / (inner // shape.heads)
        angle = torch.arange(shape.context).double()[:, None] * shape.rope_theta**-half
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    @torch.no_grad()
    def start_from(self, embedding):
        """The first columns of the model's own embedding, and small scores: their softmax is of
        plain products, with nothing that keeps them small."""
        self.embed.weight.copy_(embedding[:, : self.shape.embedding])
        for matrix in (self.q_proj_0, self.k_proj_0):
            matrix.weight.mul_((self.shape.inner // self.shape.heads) ** -0.25)

    def forward(self, ids):
        batch, length = ids.shape

        def heads(y):
            return y.view(batch, length, self.shape.heads, -1).transpose(1, 2)

        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embed(ids)
        y = self.input_layernorm_0(x)
        matrices = (self.q_proj_0, self.k_proj_0)
        query, key = (rotate(heads(matrix(y)), cos, sin) for matrix in matrices)
        mixed = F.scaled_dot_product_attention(
            query, key, heads(self.v_proj_0(y)), is_causal=True, scale=1 / self.shape.normalizer
        )
        x = x + self.o_proj_0(mixed.transpose(1, 2).reshape(batch, length, -1))
        x = x + self.proj_2_0(F.silu(self.proj_1_0(self.post_attention_layernorm_0(x))))
        return self.proj_out(self.out_layernorm(x))
