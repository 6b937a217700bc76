"""DQN (Mnih et al. 2015): a network of values that learns from remembered moments of four carts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.agent import Judged, facts
from meansquare.lab.tasks.cartpole import ACTIONS, FEATURES, Carts, Moment

CARTS, STEPS = 4, 200  # carts, and gradient steps of a period: one after each step of the carts
MEMORY, BATCH, FIRST = 10_000, 64, 250  # moments kept, learned from at once, and before learning
DISCOUNT, TARGET_EVERY = 0.99, 100
GUESSING_STEPS, LEAST_GUESSING = 1000, 0.05  # the share of guesses falls from 1 in these steps
WIDTH = 64


def load(name: str) -> Control:
    """The task; nothing is read."""
    return Control(
        facts(
            name, "CartPole, DQN", _network(), f"two hidden layers of {WIDTH} (ReLU)", BATCH,
            f"{STEPS} steps",
            f"DQN: {CARTS} carts, {MEMORY:,} moments remembered, {BATCH} learned from after each "
            f"step (Huber loss), target network every {TARGET_EVERY} steps, discount {DISCOUNT}, "
            f"guesses from 100 % to {100 * LEAST_GUESSING:.0f} % in {GUESSING_STEPS:,} steps.",
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Control:
    """The cart to be controlled."""

    facts: Facts

    def start(self, seed: int) -> Learner:
        torch.manual_seed(seed)
        return Learner(_network(), seed)


class Memory:
    """The last `size` moments that there is something to learn from."""

    def __init__(self, size: int) -> None:
        self.before, self.after = torch.empty(size, FEATURES), torch.empty(size, FEATURES)
        self.actions = torch.empty(size, dtype=torch.long)
        self.rewards, self.goes_on = torch.empty(size), torch.empty(size)
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, len(self.rewards))

    def add(self, moment: Moment) -> None:
        live = moment.live
        places = (self.seen + torch.arange(int(live.sum()))) % len(self.rewards)
        self.before[places], self.after[places] = moment.before[live], moment.after[live]
        self.actions[places], self.rewards[places] = moment.actions[live], moment.rewards[live]
        self.goes_on[places] = (~moment.terminated[live]).float()
        self.seen += len(places)


class Learner(Judged):
    """One run."""

    def __init__(self, network: nn.Module, seed: int) -> None:
        super().__init__(network, seed)
        self._network, self._target = network, copy.deepcopy(network)
        self._memory, self._carts = Memory(MEMORY), Carts(CARTS, seed)
        self._draws = torch.Generator().manual_seed(seed)
        self._steps = 0

    def parameters(self) -> Iterator[Tensor]:
        return self._network.parameters()

    def losses(self) -> Iterator[Tensor]:
        while len(self._memory) < FIRST:
            self._move(1.0)
        for _ in range(STEPS):
            if self._steps % TARGET_EVERY == 0:
                self._target.load_state_dict(self._network.state_dict())
            self._move(max(LEAST_GUESSING, 1.0 - self._steps / GUESSING_STEPS))
            self._steps += 1
            yield self._loss()

    @torch.no_grad()
    def _move(self, guessing: float) -> None:
        guesses = torch.randint(ACTIONS, (CARTS,), generator=self._draws)
        guessed = torch.rand(CARTS, generator=self._draws) < guessing
        best = self._network(self._carts.observed).argmax(1)
        self._memory.add(self._carts.step(torch.where(guessed, guesses, best)))

    def _loss(self) -> Tensor:
        memory = self._memory
        chosen = torch.randint(len(memory), (BATCH,), generator=self._draws)
        with torch.no_grad():
            following = self._target(memory.after[chosen]).max(1).values
            wanted = memory.rewards[chosen] + DISCOUNT * memory.goes_on[chosen] * following
        values = self._network(memory.before[chosen])
        taken = values.gather(1, memory.actions[chosen, None])[:, 0]
        return nn.functional.smooth_l1_loss(taken, wanted)


def _network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(FEATURES, WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, ACTIONS),
    )  # fmt: skip
