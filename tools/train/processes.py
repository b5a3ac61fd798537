"""Several processes that train one model together, each on a part of every batch."""

import os

import torch
from torch import distributed


def run(number, folder, train, *arguments):
    """train(*arguments) in so many processes of this machine; `folder` is where they meet."""
    if number == 1:
        train(*arguments)
        return
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    torch.multiprocessing.spawn(_child, (number, str(meeting), train, arguments), nprocs=number)


def _child(own, number, meeting, train, arguments):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=own, world_size=number
    )
    train(*arguments)
    distributed.destroy_process_group()


def count():
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank():
    return distributed.get_rank() if distributed.is_initialized() else 0


def part(rows):
    """This process's rows of a batch."""
    return rows[rank() :: count()]


def agree(number):
    """What the first process says."""
    if count() > 1:
        said = torch.tensor([number], dtype=torch.float64)
        distributed.broadcast(said, 0)
        number = float(said)
    return number


def average(tensors):
    """In place, over the processes."""
    if count() == 1:
        return
    together = torch.cat([each.flatten() for each in tensors]).div_(count())
    distributed.all_reduce(together)
    for each, mean in zip(tensors, together.split([each.numel() for each in tensors])):
        each.copy_(mean.view_as(each))


def gather(compute, stacked):
    """compute(stacked), where each process computes a part of its first dimension."""
    if count() == 1 or len(stacked) % count():
        return compute(stacked)
    own = compute(stacked.chunk(count())[rank()]).contiguous()
    parts = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(parts, own)
    return torch.cat(parts)
