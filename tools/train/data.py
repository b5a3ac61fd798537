"""Batches for training, and windows for evaluation."""

import numpy
import torch

BLOCK = 2048
BATCH_TOKENS = 8192


class Batches:
    """Blocks of the token stream in random order, each once per pass.

    Shorter rows are cut from blocks as well: a group of blocks gives its first rows to one batch,
    its second rows to the next, so that a batch never holds two rows of one place.
    """

    def __init__(self, tokens, end_of_text, seed, batch_tokens=BATCH_TOKENS):
        self.blocks = torch.from_numpy(tokens[: len(tokens) // BLOCK * BLOCK].astype("int64"))
        self.blocks = self.blocks.view(-1, BLOCK)
        self.end_of_text, self.seed, self.batch_tokens = end_of_text, seed, batch_tokens
        self.epoch, self.cursor, self.part, self.length = 0, 0, 0, 0
        self._shuffle()

    def _shuffle(self):
        self.order = numpy.random.default_rng((self.seed, self.epoch)).permutation(len(self.blocks))

    def state(self):
        return dict(epoch=self.epoch, cursor=self.cursor, part=self.part, length=self.length)

    def restore(self, state):
        self.__dict__.update(state)
        self._shuffle()

    def skip(self, tokens):
        """Goes on after so many tokens."""
        blocks = tokens // BLOCK
        self.epoch, self.cursor = blocks // len(self.blocks), blocks % len(self.blocks)
        self._shuffle()

    def next(self, length):
        """(inputs, targets) of [rows, length]; inputs begin with the end-of-text token."""
        rows = self.batch_tokens // length
        if self.part * self.length >= BLOCK or (self.length != length and self.part):
            self.part = 0
            self.cursor += self.batch_tokens // self.length
        self.length = length
        if self.cursor + rows > len(self.blocks):
            self.epoch, self.cursor, self.part = self.epoch + 1, 0, 0
            self._shuffle()
        chosen = self.blocks[self.order[self.cursor : self.cursor + rows]]
        targets = chosen[:, self.part * length : (self.part + 1) * length]
        self.part += 1
        return shifted(targets, self.end_of_text), targets.contiguous()


def moved(tensor, device):
    """There; the CPU does not wait for a GPU."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def shifted(targets, end_of_text):
    """The inputs that predict `targets`: end-of-text first, then all but the last."""
    start = torch.full_like(targets[:, :1], end_of_text)
    return torch.cat((start, targets[:, :-1]), dim=1)


def windows(ids, length):
    """A document's tokens in runs of `length`; the last may be shorter."""
    return [ids[start : start + length] for start in range(0, len(ids), length)]
