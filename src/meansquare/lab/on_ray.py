"""The same runs on a Ray cluster: a Ray task of one core each, done again where it is lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from meansquare.lab.errors import LabError
from meansquare.lab.schedule import Event, Failure, Finished, Started, Trainer, describe
from meansquare.lab.study import Plan

MOST_RETRIES = 5

_trainers: list[Trainer] = []


def _train(plan: Plan) -> Any:
    """Runs in a Ray worker process, which keeps its trainer and so the data of its tasks."""
    if not _trainers:
        _trainers.append(Trainer())
    return _trainers[0].train(plan)


class RayCrew:
    """`jobs` runs at a time on the cluster at RAY_ADDRESS, or on one started on this machine."""

    def __init__(self, jobs: int) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self._ray, self._jobs = ray, jobs
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            # A cluster of our own has as many cores as runs are asked for; a joined one its own.
            ray.init(
                num_cpus=None if "RAY_ADDRESS" in os.environ else jobs,
                include_dashboard=None if "RAY_ADDRESS" in os.environ else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        self._remote = ray.remote(num_cpus=1, max_retries=MOST_RETRIES)(_train)

    def train(self, plans: Sequence[Plan]) -> Iterator[Event]:
        waiting, running = list(reversed(plans)), {}
        while waiting or running:
            while waiting and len(running) < self._jobs:
                plan = waiting.pop()
                slot = min(set(range(self._jobs)) - {slot for slot, _ in running.values()})
                running[self._remote.remote(plan)] = (slot, plan)
                yield Started(slot, plan)
            done, _ = self._ray.wait(list(running))
            slot, plan = running.pop(done[0])
            yield Finished(slot, plan, self._result(done[0], plan))

    def _result(self, reference: Any, plan: Plan) -> Any:
        try:
            record = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise LabError(f"Ray lost {describe(plan)}: {str(error).splitlines()[0]}") from error
        if isinstance(record, Failure):
            raise LabError(f"{describe(plan)}: {record.message}")
        return record

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._ray.shutdown()
