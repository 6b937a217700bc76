"""A2C (Mnih et al. 2016, synchronous): an actor and a critic that learn from eight carts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from meansquare.lab.tasks import Facts
from meansquare.lab.tasks.agent import Judged, facts
from meansquare.lab.tasks.cartpole import ACTIONS, FEATURES, Carts, Moment

CARTS, ROLLOUT, UPDATES = 8, 16, 30  # carts, steps between updates, updates of a period
DISCOUNT, CRITIC_WEIGHT, ENTROPY_WEIGHT = 0.99, 0.5, 0.01
WIDTH = 64


class Networks(NamedTuple):
    actor: nn.Module
    critic: nn.Module


def load(name: str) -> Control:
    """The task; nothing is read."""
    networks = _networks()
    return Control(
        facts(
            name, "CartPole, A2C", nn.ModuleList(networks),
            f"actor and critic, each one hidden layer of {WIDTH} (tanh)", CARTS * ROLLOUT,
            f"{UPDATES} updates",
            f"A2C: {CARTS} carts, {ROLLOUT}-step returns, discount {DISCOUNT}, entropy weight "
            f"{ENTROPY_WEIGHT}, no clipping of gradients.",
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Control:
    """The cart to be controlled."""

    facts: Facts

    def start(self, seed: int) -> ActorCritic:
        torch.manual_seed(seed)
        return ActorCritic(_networks(), seed)


class ActorCritic(Judged):
    """One run."""

    def __init__(self, networks: Networks, seed: int) -> None:
        super().__init__(networks.actor, seed)
        self._actor, self._critic = networks
        self._carts = Carts(CARTS, seed)
        self._draws = torch.Generator().manual_seed(seed)

    def parameters(self) -> Iterator[Tensor]:
        return chain(self._actor.parameters(), self._critic.parameters())

    def losses(self) -> Iterator[Tensor]:
        for _ in range(UPDATES):
            yield self._loss([self._move() for _ in range(ROLLOUT)])

    @torch.no_grad()
    def _move(self) -> Moment:
        chances = self._actor(self._carts.observed).softmax(1)
        # NaN after a divergence: any action will do, the loss ends the run.
        chances = chances.nan_to_num(nan=0.5)
        return self._carts.step(chances.multinomial(1, generator=self._draws)[:, 0])

    def _loss(self, rollout: Sequence[Moment]) -> Tensor:
        moments = Moment(*map(torch.stack, zip(*rollout, strict=True)))
        with torch.no_grad():
            targets = n_step_returns(moments, self._critic(moments.after)[..., 0])
        values = self._critic(moments.before)[..., 0]
        logs = self._actor(moments.before).log_softmax(-1)
        taken = logs.gather(-1, moments.actions[..., None])[..., 0]
        advantages = (targets - values).detach()
        entropy = -(logs.exp() * logs).sum(-1)
        parts = (
            -taken * advantages + CRITIC_WEIGHT * (targets - values) ** 2 - ENTROPY_WEIGHT * entropy
        )
        return (parts * moments.live).sum() / moments.live.sum()


def n_step_returns(moments: Moment, values_after: Tensor) -> Tensor:
    """The discounted rewards up to the rollout's end, (steps, carts), and the critic's word there.

    A fallen pole is worth nothing more; an episode cut off at 500 is worth what the critic says.
    """
    found = torch.empty_like(values_after)
    following = values_after[-1]
    for at in reversed(range(len(found))):
        following = torch.where(moments.ended[at], values_after[at], following)
        following = following * ~moments.terminated[at]
        found[at] = following = moments.rewards[at] + DISCOUNT * following
    return found


def _networks() -> Networks:
    def network(outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.Tanh(), nn.Linear(WIDTH, outputs))

    return Networks(network(ACTIONS), network(1))
