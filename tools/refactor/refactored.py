"""The dense model with its channels masked by each token's expert: what is trained."""

import torch
from torch import nn

import export
import model
from predictor import Predictor, PredictorShape


class MaskedMlp(model.DenseMlp):
    """Of a token's channels, those of its expert and the shared ones count."""

    def __init__(self, shape, kept):
        super().__init__(shape)
        self.register_buffer("kept", kept, persistent=False)  # [experts, channels]
        self.experts = None  # [batch, length], of the batch that is computed

    def forward(self, x):
        active = self.channels(x) * self.kept[self.experts].to(x.dtype)
        return model.product(active, self.down_proj), None


class ObservedMlp(model.DenseMlp):
    """Keeps what its channels said of the last batch."""

    def forward(self, x):
        self.active = self.channels(x)
        return model.product(self.active, self.down_proj), None

    def largest(self):
        """Which half of each token's channels are largest in magnitude."""
        size = self.active.float().abs()
        least = size.kthvalue(size.shape[-1] // 2, dim=-1, keepdim=True).values
        return size > least


def dense_shape(config):
    return model.Shape(
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        experts=0,
        chosen=0,
        context=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
    )


def observed(folder, config, precision):
    """The dense model of an exported folder, with observed MLPs."""
    net = model.Model(dense_shape(config), seed=0, precision=precision)
    for layer in net.layers:
        layer.mlp = ObservedMlp(net.shape)
    net.load_state_dict(export.state_of(folder)[0])
    return net.requires_grad_(False)


@torch.no_grad()
def overlaps(net, ids, own):
    """How much of each expert's own channels is among a token's largest: [batch, length, experts].

    The mean over the layers of |largest and own| / |own|, of the dense model `net`; own [layer,
    expert, channel].
    """
    net.hidden(ids)
    total = 0
    for layer, masks in zip(net.layers, own):
        masks = masks.float()
        total = total + (layer.mlp.largest().float() @ masks.t()) / masks.sum(dim=1)
    return total / len(net.layers)


class Refactored(nn.Module):
    """Backbone and router; an expert is the channels it shares and its own."""

    def __init__(self, config, shared, own, predictor_shape, precision):
        super().__init__()
        self.backbone = model.Model(dense_shape(config), seed=0, precision=precision)
        for layer, common, each in zip(self.backbone.layers, shared, own):
            layer.mlp = MaskedMlp(self.backbone.shape, common.unsqueeze(0) | each)
        self.predictor = Predictor(predictor_shape)

    def forward(self, ids, targets=None, experts=None, teacher=None):
        if experts is None:
            with torch.no_grad():
                experts = self.predictor(ids).argmax(dim=-1)
        for layer in self.backbone.layers:
            layer.mlp.experts = experts
        return self.backbone(ids, targets, teacher)


def predictor_shape(config, experts, embedding):
    return PredictorShape(
        vocabulary=config["vocab_size"],
        embedding=embedding,
        inner=embedding,
        experts=experts,
        rope_theta=config["rope_theta"],
        context=config["max_position_embeddings"],
    )
