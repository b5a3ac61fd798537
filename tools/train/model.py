"""The two models as lean PyTorch: OLMoE's architecture and its dense sibling, Llama's.

Parameter names are Hugging Face's, but for the experts, which are stacked: one tensor [experts,
out, in] per projection. Parameters are f32; matrices are multiplied in `precision`, all else in
f32. transformers gives the same logits (export.py checks it).
"""

import functools
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

EPSILON = 1e-5
# Rows of the output computed at a time on a CPU, so that their logits stay in the cache.
LOSS_ROWS = 256
# Queries that attention computes at a time.
QUERIES = 128


class Shape(NamedTuple):
    """What config.json says; experts = 0 is the dense model."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    intermediate: int = 64
    experts: int = 32
    chosen: int = 4
    context: int = 2048
    rope_theta: float = 10000.0


MOE = Shape()
DENSE = Shape(intermediate=512, experts=0, chosen=0)


_fusing = False


def fuse():
    """From now on compile what `fused` marks: twice as fast on a CPU; needs a C++ compiler."""
    global _fusing
    torch._dynamo.config.recompile_limit = 64
    _fusing = True


def fused(function):
    """Element by element work, which `fuse` makes one pass over memory."""
    compiled = torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def call(*arguments):
        return (compiled if _fusing else function)(*arguments)

    return call


@fused
def added_and_normed(x, change, weight, precision):
    x = x + change
    return x, F.rms_norm(x, (x.shape[-1],), weight, EPSILON).to(precision)


def rotate(x, cos, sin):
    """Rotary positions on [batch, length, heads, head size]; halves, as Hugging Face pairs them."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@fused
def placed(x, weight, heads, cos, sin):
    """Queries or keys [batch, length, hidden] as [batch x heads, length, head size], in place."""
    batch, length, hidden = x.shape
    y = x.float()
    if weight is not None:
        y = F.rms_norm(y, (hidden,), weight, EPSILON)
    y = rotate(y.view(batch, length, heads, -1), cos, sin).to(x.dtype)
    return y.transpose(1, 2).contiguous().view(batch * heads, length, -1)


@fused
def gated(gate, up):
    return F.silu(gate.float()).to(up.dtype) * up


@fused
def gated_and_scaled(inner, scale):
    """silu(gate) up scale of rows [gate, up]."""
    gate, up = inner.float().chunk(2, dim=1)
    return (F.silu(gate) * up * scale).to(inner.dtype)


@fused
def gated_and_scaled_backward(inner, scale, grad):
    """(the gradients of inner and scale, and what gated_and_scaled gave)."""
    gate, up = inner.float().chunk(2, dim=1)
    grad = grad.float()
    sigmoid = gate.sigmoid()
    silu = gate * sigmoid
    plain = silu * up
    scaled = grad * scale
    grad_gate = scaled * up * (sigmoid + silu * (1 - sigmoid))
    grad_inner = torch.cat((grad_gate, scaled * silu), dim=1).to(inner.dtype)
    return grad_inner, (grad * plain).sum(dim=1), (plain * scale).to(inner.dtype)


@fused
def summed_choices(rows, place, chosen):
    """Rows at `place`, summed over each token's choices."""
    return rows[place].view(-1, chosen, rows.shape[1]).sum(dim=1)


@fused
def surprise(logits, targets, share):
    """(the sum of -log p, the gradient of the logits times `share`)."""
    shares = logits.float().log_softmax(dim=1)
    right = torch.arange(logits.shape[1], device=logits.device) == targets.unsqueeze(1)
    nats = -torch.where(right, shares, 0.0).sum()
    return nats, ((shares.exp() - right.float()) * share).to(logits.dtype)


@fused
def surprise_beside(logits, teacher, targets, weight, share):
    """As `surprise`, of the targets mixed with `weight` of what the teacher's logits say."""
    shares, taught = logits.float().log_softmax(dim=1), teacher.float().softmax(dim=1)
    right = torch.arange(logits.shape[1], device=logits.device) == targets.unsqueeze(1)
    wanted = weight * taught + (1 - weight) * right.float()
    return -(wanted * shares).sum(), ((shares.exp() - wanted) * share).to(logits.dtype)


class Teacher(NamedTuple):
    """Another model's x and output matrix, and how much of the targets is what it says."""

    x: torch.Tensor
    output: torch.Tensor
    weight: float


class Loss(torch.autograd.Function):
    """Mean cross-entropy of x [tokens, hidden] times the output matrix, some rows at a time.

    The gradients are computed on the way, so that no logits are kept.
    """

    @staticmethod
    def forward(ctx, x, output, targets, teacher=None):
        total = torch.zeros((), device=x.device)
        grad_x, grad_output = torch.empty_like(x), torch.zeros_like(output, dtype=torch.float32)
        size, share = len(x) if x.is_cuda else LOSS_ROWS, 1 / len(targets)
        tensors = (x, x if teacher is None else teacher.x, targets, grad_x)
        for rows, other, wanted, grad in zip(*(y.split(size) for y in tensors)):
            logits = rows @ output.t()
            if teacher is None:
                nats, change = surprise(logits, wanted, share)
            else:
                said = other @ teacher.output.t()
                nats, change = surprise_beside(logits, said, wanted, teacher.weight, share)
            total += nats
            torch.mm(change, output, out=grad)
            grad_output += change.t() @ rows
        ctx.save_for_backward(grad_x, grad_output.to(output.dtype))
        return total / len(targets)

    @staticmethod
    def backward(ctx, grad):
        grad_x, grad_output = ctx.saved_tensors
        return grad_x * grad, grad_output * grad, None, None


def times_each(rows, weights, ends):
    """Each expert's rows [its rows, in] times its matrix of `weights` [experts, in, out]."""
    if rows.is_cuda:
        return F.grouped_mm(rows, weights, offs=ends)
    out, start = rows.new_empty(len(rows), weights.shape[2]), 0
    for weight, end in zip(weights, ends):
        torch.mm(rows[start:end], weight, out=out[start:end])
        start = end
    return out


def times_transposed(left, right, ends):
    """Each expert's rows of `left`, transposed, times those of `right`: [experts, left, right]."""
    if left.is_cuda:
        return F.grouped_mm(left.t(), right, offs=ends)
    out, start = left.new_empty(len(ends), left.shape[1], right.shape[1]), 0
    for product_of_expert, end in zip(out, ends):
        torch.mm(left[start:end].t(), right[start:end], out=product_of_expert)
        start = end
    return out


class ExpertMlp(torch.autograd.Function):
    """Tokens [tokens, hidden] through their chosen experts, summed with their weights.

    `order` sorts the (token, choice) pairs by expert, `ends` are where each expert's rows end: a
    list, or on a GPU an I32 tensor there, so that nothing waits for it.
    """

    @staticmethod
    def forward(ctx, tokens, weights, gate_up, down, order, ends):
        chosen = weights.shape[1]
        rows = tokens.index_select(0, order // chosen)
        scale = weights.flatten().index_select(0, order).unsqueeze(1)
        inner = times_each(rows, gate_up.transpose(1, 2), ends)
        out = times_each(gated_and_scaled(inner, scale), down.transpose(1, 2), ends)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        ctx.save_for_backward(rows, scale, gate_up, down, order, place, inner)
        ctx.ends, ctx.chosen = ends, chosen
        return summed_choices(out, place, chosen)

    @staticmethod
    def backward(ctx, grad):
        rows, scale, gate_up, down, order, place, inner = ctx.saved_tensors
        ends, chosen = ctx.ends, ctx.chosen
        grad_out = grad.index_select(0, order // chosen)
        grad_active = times_each(grad_out, down, ends)
        grad_inner, grad_scale, active = gated_and_scaled_backward(inner, scale, grad_active)
        grad_down = times_transposed(grad_out, active, ends)
        grad_rows = times_each(grad_inner, gate_up, ends)
        grad_gate_up = times_transposed(grad_inner, rows, ends)
        grad_weights = grad_scale[place].view(-1, chosen)
        grad_tokens = summed_choices(grad_rows, place, chosen)
        return grad_tokens, grad_weights, grad_gate_up, grad_down, None, None


class Matrix(nn.Module):
    """The weight of a linear projection."""

    def __init__(self, out, size):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, size))


class Scale(nn.Module):
    """The weight of a norm."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


def product(x, *matrices):
    """x times the matrices side by side, in the type of x."""
    weights = [each.weight for each in matrices]
    return F.linear(x, (torch.cat(weights) if len(weights) > 1 else weights[0]).to(x.dtype))


def attend(query, key, value):
    """Causal attention of [batch x heads, length, head size].

    On a CPU some queries at a time, with plain matmuls: several times as fast as PyTorch's kernel.
    """
    if query.is_cuda:
        # One kernel, but only in four dimensions.
        together = (each.unsqueeze(0) for each in (query, key, value))
        return F.scaled_dot_product_attention(*together, is_causal=True).squeeze(0)
    count, length, size = query.shape
    later = torch.full((QUERIES, QUERIES), -torch.inf, dtype=query.dtype).triu(1)
    out = []
    for start in range(0, length, QUERIES):
        end = min(start + QUERIES, length)
        mask = F.pad(later[: end - start, : end - start], (start, 0)).expand(count, -1, -1)
        keys = key[:, :end].transpose(1, 2)
        scores = torch.baddbmm(mask, query[:, start:end], keys, alpha=size**-0.5)
        out.append(torch.bmm(scores.softmax(dim=-1), value[:, :end]))
    return torch.cat(out, dim=1)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, hidden = shape.heads, shape.hidden
        self.q_proj, self.k_proj = Matrix(hidden, hidden), Matrix(hidden, hidden)
        self.v_proj, self.o_proj = Matrix(hidden, hidden), Matrix(hidden, hidden)
        self.q_norm, self.k_norm = Scale(hidden), Scale(hidden)
        if not shape.experts:  # Llama's queries and keys have no norm.
            self.q_norm.weight = self.k_norm.weight = None

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        projected = product(x, self.q_proj, self.k_proj, self.v_proj)
        query, key, value = projected.chunk(3, dim=-1)
        value = value.view(batch, length, self.heads, -1).transpose(1, 2)
        mixed = attend(
            placed(query, self.q_norm.weight, self.heads, cos, sin),
            placed(key, self.k_norm.weight, self.heads, cos, sin),
            value.reshape(batch * self.heads, length, -1),
        )
        mixed = mixed.view(batch, self.heads, length, -1).transpose(1, 2)
        return product(mixed.reshape(batch, length, hidden), self.o_proj)


class DenseMlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = Matrix(shape.intermediate, shape.hidden)
        self.up_proj = Matrix(shape.intermediate, shape.hidden)
        self.down_proj = Matrix(shape.hidden, shape.intermediate)

    def channels(self, x):
        """What goes into the down projection: [.., intermediate]."""
        gate, up = product(x, self.gate_proj, self.up_proj).chunk(2, dim=-1)
        return gated(gate, up)

    def forward(self, x):
        return product(self.channels(x), self.down_proj), None


class Experts(nn.Module):
    """The stacked weights."""

    def __init__(self, shape):
        super().__init__()
        count, hidden, inner = shape.experts, shape.hidden, shape.intermediate
        self.gate_proj = nn.Parameter(torch.empty(count, inner, hidden))
        self.up_proj = nn.Parameter(torch.empty(count, inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(count, hidden, inner))

    def forward(self, tokens, weights, order, ends):
        gate_up = torch.cat((self.gate_proj, self.up_proj), dim=1).to(tokens.dtype)
        down = self.down_proj.to(tokens.dtype)
        return ExpertMlp.apply(tokens, weights, gate_up, down, order, ends)


class SparseMlp(nn.Module):
    """A token goes to the experts of largest probability, weighted by it, made to sum to one."""

    def __init__(self, shape):
        super().__init__()
        self.chosen, self.count = shape.chosen, shape.experts
        self.gate = Matrix(shape.experts, shape.hidden)
        self.experts = Experts(shape)

    def forward(self, x):
        tokens = x.view(-1, x.shape[-1])
        logits = product(tokens.float(), self.gate)
        probabilities = logits.softmax(dim=-1)
        weights, choice = probabilities.topk(self.chosen, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        in_order, order = choice.flatten().sort(stable=True)
        experts = torch.arange(self.count, device=x.device)
        ends = torch.searchsorted(in_order, experts, right=True, out_int32=True)
        counts = ends.diff(prepend=ends.new_zeros(1))
        mixed = self.experts(tokens, weights, order, ends if x.is_cuda else ends.tolist())
        return mixed.view_as(x), self._routing(logits, probabilities, counts)

    def _routing(self, logits, probabilities, counts):
        """Balance loss (1 when even), router z-loss, load of the busiest expert over the mean."""
        load = counts.float() / counts.sum()
        balance = self.count * (load * probabilities.mean(dim=0)).sum()
        z_loss = logits.logsumexp(dim=-1).square().mean()
        return torch.stack((balance, z_loss, load.max() * self.count))


def deepened(state, layers):
    """A state of fewer layers with new ones among them, which copy the layer before.

    Their outputs are zero, so that they change nothing at first.
    """
    by_layer, out = {}, {}
    for name, value in state.items():
        if name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            by_layer.setdefault(int(index), {})[rest] = value
        else:
            out[name] = value
    sources = [layer * len(by_layer) // layers for layer in range(layers)]
    for layer, source in enumerate(sources):
        is_new = layer > 0 and sources[layer - 1] == source
        for rest, value in by_layer[source].items():
            silent = is_new and ("o_proj" in rest or "down_proj" in rest)
            out[f"layers.{layer}.{rest}"] = torch.zeros_like(value) if silent else value
    return out


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm = Scale(shape.hidden)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Scale(shape.hidden)
        self.mlp = SparseMlp(shape) if shape.experts else DenseMlp(shape)

    def forward(self, x, change, cos, sin, precision):
        """The residual stream and what is still to be added to it."""
        x, y = added_and_normed(x, change, self.input_layernorm.weight, precision)
        change = self.self_attn(y, cos, sin)
        x, y = added_and_normed(x, change, self.post_attention_layernorm.weight, precision)
        change, routing = self.mlp(y)
        return x, change, routing


class Model(nn.Module):
    """ids [batch, length] to the mean loss of `targets`, or to logits without them."""

    def __init__(self, shape, seed, precision=torch.float32):
        super().__init__()
        self.shape, self.precision = shape, precision
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Scale(shape.hidden)
        self.lm_head = Matrix(shape.vocabulary, shape.hidden)
        size = shape.hidden // shape.heads
        frequency = shape.rope_theta ** (-torch.arange(0, size, 2).double() / size)
        angle = torch.arange(shape.context).double()[:, None, None] * frequency
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

    def hidden(self, ids):
        """What the output reads, and what the routers did."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x, change, routing = self.embed_tokens(ids), torch.zeros((), device=ids.device), []
        for layer in self.layers:
            x, change, facts = layer(x, change, cos, sin, self.precision)
            routing.append(facts)
        _, x = added_and_normed(x, change, self.norm.weight, self.precision)
        return x, torch.stack(routing) if self.shape.experts else None

    def forward(self, ids, targets=None, teacher=None):
        x, routing = self.hidden(ids)
        if targets is None:
            return product(x, self.lm_head)
        output = self.lm_head.weight.to(self.precision)
        return Loss.apply(x.flatten(0, 1), output, targets.flatten(), teacher), routing

    @torch.no_grad()
    def teach(self, ids, weight):
        """What this model says of `ids`, for the loss of another."""
        output = self.lm_head.weight.to(self.precision)
        return Teacher(self.hidden(ids)[0].flatten(0, 1), output, weight)
