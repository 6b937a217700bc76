"""Processes of a gloo group that wait for work: `ranks(4).call(function, ...)` runs it on each."""

import atexit
import functools
import multiprocessing
import os
import tempfile
import time
import traceback
from typing import Any

import torch
import torch.distributed as dist

LIMIT = 60  # seconds that work may take


def _serve(rank: int, size: int, store: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    while True:
        function, arguments = pipe.recv()
        try:
            torch.manual_seed(0)
            answer = True, function(*arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        pipe.send(answer)


class Ranks:
    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes, self._processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            arguments = (rank, size, f"{self._folder.name}/store", theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def call(self, function: Any, *arguments: Any) -> list[Any]:
        """What a function returns on each rank; AssertionError with the first that failed."""
        for pipe in self._pipes:
            pipe.send((function, arguments))
        end = time.monotonic() + LIMIT
        answers = [
            pipe.recv() if pipe.poll(max(0, end - time.monotonic())) else (False, "no answer")
            for pipe in self._pipes
        ]
        failed = [text for fine, text in answers if not fine]
        if failed:
            self.end()
            ranks.cache_clear()
        assert not failed, failed[0]
        return [answer for _, answer in answers]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        self._folder.cleanup()


@functools.cache
def ranks(size: int) -> Ranks:
    """A group of so many processes, which is kept for the next test."""
    group = Ranks(size)
    atexit.register(group.end)
    return group
