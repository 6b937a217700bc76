"""Train a small language model over several processes, and go on where it was killed.

    torchrun --nproc-per-node 2 examples/train_distributed.py

Each process keeps a part of the weights and of the optimizer's state (FSDP2), on the GPUs if there
are any. Every 20 steps a checkpoint is written; the next call, on any number of processes, goes on
from the last whole one. The text is that of Python's own help.
"""

import argparse
import os
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F  # noqa: N812

from meansquare import RMSProp

WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 64, 4, 2, 64, 16


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.heads, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.grow, self.shrink = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        split = self.heads(self.before(x)).unflatten(-1, (3, HEADS, -1)).transpose(1, 3)
        seen = F.scaled_dot_product_attention(*split.unbind(2), is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + self.shrink(F.gelu(self.grow(self.after(x))))


class LanguageModel(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.character = nn.Embedding(characters, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.out = nn.Linear(WIDTH, characters)

    def forward(self, x: Tensor) -> Tensor:
        x = self.character(x) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return self.out(x.flatten(0, 1))


def batch(text: Tensor, step: int) -> Tensor:
    """This process's rows of the batch of a step, which is the same on any number of them."""
    source = torch.Generator().manual_seed(step)
    starts = torch.randint(len(text) - CONTEXT, (BATCH, 1), generator=source)
    rows = text[starts + torch.arange(CONTEXT + 1)]
    return rows.chunk(dist.get_world_size())[dist.get_rank()]


def state_of(model: nn.Module, opt: RMSProp, step: int) -> dict:
    weights, state = get_state_dict(model, opt)
    return {"model": weights, "optimizer": state, "step": torch.tensor(step)}


def resume(folder: Path, model: nn.Module, opt: RMSProp) -> int:
    """Load the last checkpoint that is whole (its metadata come last); returns its step, or 0."""
    whole = sorted(path.parent for path in folder.glob("step-*/.metadata"))
    if not whole:
        return 0
    held = state_of(model, opt, 0)
    dcp.load(held, checkpoint_id=whole[-1])
    weights, state = held["model"], held["optimizer"]
    set_state_dict(model, opt, model_state_dict=weights, optim_state_dict=state)
    return int(held["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints")
    parser.add_argument("--out", type=Path, default=Path("runs/distributed"))
    options = parser.parse_args()

    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    torch.manual_seed(0)
    text = "".join(topics.values())
    letters = sorted(set(text))
    text = torch.tensor([letters.index(c) for c in text])

    model = LanguageModel(len(letters)).to(device)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    opt = RMSProp(model.parameters(), lr=2e-3, alpha=0.95, max_grad_norm=1.0)

    first = resume(options.out, model, opt)
    for step in range(first, options.steps):
        rows = batch(text, step).to(device)
        opt.zero_grad()
        loss = F.cross_entropy(model(rows[:, :-1]), rows[:, 1:].flatten())
        loss.backward()
        opt.step()
        mean = loss.detach() / dist.get_world_size()
        dist.all_reduce(mean)
        if dist.get_rank() == 0:
            print(f"step {step} loss {mean.item():.6f}", flush=True)
        if (step + 1) % options.every == 0:
            where = options.out / f"step-{step + 1:06}"
            dcp.save(state_of(model, opt, step + 1), checkpoint_id=where)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
