"""Watch a character RNN: what step does RMSProp really take in each of its layers?

python examples/watch_a_char_rnn.py [FOLDER]

Trains a small LSTM on Python's own help pages, writes what every layer does to FOLDER/watch.jsonl;
`meansquare report FOLDER/watch.jsonl` draws it.
"""

import sys
from pydoc_data.topics import topics

import torch
from torch import nn

import meansquare

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/char-rnn"
torch.manual_seed(0)

text = "\n".join(topics.values())
letters = sorted(set(text))
codes = torch.tensor([letters.index(letter) for letter in text[:100_000]])


class CharRNN(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, 32)
        self.lstm = nn.LSTM(32, 96, batch_first=True)
        self.head = nn.Linear(96, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(x))[0])


model = CharRNN(len(letters))
optimizer = meansquare.RMSProp(model.parameters(), lr=2e-3, alpha=0.95)  # as char-rnn, 2015


def loss_of(batch: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


# Every 25 steps, look at every parameter. Training stays as it is, bit for bit.
with meansquare.watch(optimizer, every=25, to=f"{folder}/watch.jsonl", model=model) as watcher:
    for step in range(1, 301):
        starts = torch.randint(len(codes) - 65, (32, 1))
        batch = codes[starts + torch.arange(65)]
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.loss(loss)  # read when it is written: no wait for a GPU
        if step % 100 == 0:
            # How near the edge: above 1, steps overshoot along the sharpest direction.
            near = watcher.sharpness(lambda batch=batch: loss_of(batch))
            print(f"step {step}: loss {loss.item():.3f}, sharpness {near.edge:.2f} of the limit")

print(f"draw it: meansquare report {watcher.path}")
