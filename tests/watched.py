"""A small training to be watched, and the file of it."""

import json

import torch
from torch import nn


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def train(model, optimizer, steps, tell=lambda loss: None):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.randn(5, 6)).square().mean()
        loss.backward()
        optimizer.step()
        tell(loss)
    return [p.detach().clone() for p in model.parameters()]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
