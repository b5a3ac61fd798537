"""Muon for the matrices, Adam for embeddings, output, norms and router.

Muon's step is the momentum's nearest orthogonal matrix. torch.optim.Muon finds it for one matrix
at a time and in bf16; here they are batched, and the precision is the caller's.
"""

import functools

import torch

import processes

# Polar Express (Amsel et al. 2025), the optimal quintics for four steps from 1e-3 up; each is for
# what the one before leaves.
QUINTICS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)


def orthogonal(matrices, precision):
    """Of [n, rows, columns]: all singular values to about one."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)).to(precision)
    for a, b, c in QUINTICS:
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; the step's size follows the matrix's shape."""

    def __init__(self, parameters, lr, precision, momentum=0.95, weight_decay=0.02):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        self.compute = functools.partial(orthogonal, precision=precision)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum, share = state["momentum"], group["momentum"]
                momentum.lerp_(parameter.grad, 1 - share)
                update = parameter.grad.lerp(momentum, share)
                by_shape.setdefault(parameter.shape[-2:], []).append((parameter, update))
            rate = group["lr"]
            kept = 1 - rate * group["weight_decay"]
            for shape, entries in by_shape.items():
                stacked = torch.cat([update.view(-1, *shape) for _, update in entries])
                scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
                steps = processes.gather(self.compute, stacked).float() * scale
                for (parameter, _), step in zip(entries, self._split(steps, entries)):
                    parameter.mul_(kept).sub_(step.reshape(parameter.shape))

    @staticmethod
    def _split(stacked, entries):
        sizes = [
            parameter.numel() // parameter[..., :, :].shape[-1] // parameter.shape[-2]
            for parameter, _ in entries
        ]
        return stacked.split(sizes)


def build(model, rates, precision, graphed=False):
    """Both optimizers; `rates` has matrices, embedding, output and rest. `peak` keeps them.

    Where their steps are replayed as CUDA graphs, rates are tensors on the GPU.
    """
    kinds = dict(matrices=[], embedding=[], output=[], rest=[])
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name:
            kinds["embedding"].append(parameter)
        elif "lm_head" in name:
            kinds["output"].append(parameter)
        elif parameter.dim() < 2 or name.endswith("mlp.gate.weight"):
            kinds["rest"].append(parameter)
        else:
            kinds["matrices"].append(parameter)
    groups = {kind: dict(params=found, peak=rates[kind]) for kind, found in kinds.items()}
    device = next(model.parameters()).device
    for group in groups.values():
        peak = group["peak"]
        group["lr"] = torch.tensor(peak, device=device) if graphed else peak
    matrices = groups.pop("matrices")
    adam = dict(betas=(0.9, 0.99), eps=1e-10, weight_decay=0.0, capturable=graphed)
    return [
        Muon([matrices], rates["matrices"], precision),
        torch.optim.AdamW(list(groups.values()), **adam),
    ]


def set_rates(optimizers, factor):
    """All rates to so much of their peaks."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(group["peak"] * factor)
            else:
                group["lr"] = group["peak"] * factor
