"""Forked and spawned processes step as their parents do, and every process ends well."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import python
from torch import nn
from torch.utils.data import DataLoader, Dataset
from twins import parameters, set_gradients

from meansquare import RMSProp

MANY = 300_000  # elements, enough for a step to use more than one thread
WITHOUT_GIL = 700_000  # elements, enough to let other Python threads run, and fork, meanwhile
LIMIT = 300  # seconds, after which a process hangs, beside other work

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def stepping(size=MANY):
    """An optimizer after its first step, with gradients for more."""
    torch.manual_seed(0)
    opt = RMSProp([nn.Parameter(torch.randn(size))], lr=1e-3, momentum=0.9)
    set_gradients(0, parameters(opt))
    opt.step()
    return opt


def after(opt, steps):
    """Its parameters as NumPy sees them, since torch's own operations hang in a forked child."""
    for _ in range(steps):
        opt.step()
    return [p.detach().numpy() for p in parameters(opt)]


def same(ours, theirs):
    return all(map(np.array_equal, ours, theirs))


def ends_well(pid):
    """Whether a child ends with status 0 in time."""
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def forked(work):
    """Whether some work in a forked child gives True."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return ends_well(pid)


@can_fork
def test_a_forked_child_steps_as_its_parent_does_and_so_does_its_child(threads):
    threads(2)
    opt, twin, young = (stepping() for _ in range(3))
    want = [p.copy() for p in after(twin, 3)]

    def grandchild():
        return same(after(opt, 3), want)

    def child():
        return same(after(young, 3), want) and forked(grandchild) and same(after(opt, 3), want)

    assert forked(child)
    assert same(after(opt, 3), want)


@can_fork
@pytest.mark.parametrize("size", [MANY, WITHOUT_GIL])
def test_a_process_forks_while_another_of_its_threads_steps(size, threads):
    threads(2)
    opt, other = stepping(), stepping(size)
    want = [p.copy() for p in after(stepping(), 2)]
    done = threading.Event()

    def keep_stepping():
        while not done.is_set():
            other.step()

    thread = threading.Thread(target=keep_stepping)
    thread.start()
    try:
        assert all(forked(lambda: same(after(opt, 2), want)) for _ in range(50))
    finally:
        done.set()
        thread.join()


def step_again(pickled, answer):
    opt = pickle.loads(pickled)
    set_gradients(1, parameters(opt))
    answer.put([p.tobytes() for p in after(opt, 3)])


def test_a_spawned_child_steps_a_pickled_optimizer_as_its_parent_does(threads):
    threads(2)
    opt, context = stepping(), multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=step_again, args=(pickle.dumps(opt), answer))
    child.start()
    told = answer.get(timeout=LIMIT)
    child.join(LIMIT)
    assert child.exitcode == 0
    set_gradients(1, parameters(opt))
    assert told == [p.tobytes() for p in after(opt, 3)]


HOGWILD = """
import torch
import torch.multiprocessing as mp
from meansquare import RMSProp

def step(opt, p, g):
    p.grad = g
    opt.step()

if __name__ == "__main__":
    p, g = torch.nn.Parameter(torch.ones(4)), torch.ones(4)
    opt = RMSProp([p], lr=0.1)
    step(opt, p, g)
    p.grad = None
    child = mp.get_context("spawn").Process(target=step, args=(opt, p, g))
    child.start()
    child.join()
    step(opt, p, g)
    print(opt.state[p]["step"].item(), child.exitcode)
"""


def test_an_optimizer_shared_with_a_spawned_child_goes_on_in_both(tmp_path):
    script = tmp_path / "hogwild.py"
    script.write_text(HOGWILD)
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3.0 0\n", "")


OPTIMIZER = """
import threading, time

def stepping(size):
    p = torch.nn.Parameter(torch.zeros(size))
    p.grad = torch.ones(size)
    opt = RMSProp([p])
    opt.step()
    return opt

def keep_stepping(opt):
    while True:
        opt.step()

def in_the_background(size):
    threading.Thread(target=keep_stepping, args=(stepping(size),), daemon=True).start()

torch.set_num_threads(3)
"""
ENDS = {
    "an_optimizer_at_hand": "opt = stepping(300_000)",
    "an_optimizer_in_a_module": "torch.opt = stepping(700_000)",
    "an_optimizer_in_a_cycle": "opt = stepping(300_000); opt.me = opt; del opt",
    "a_thread_that_has_ended": """
thread = threading.Thread(target=stepping, args=(300_000,))
thread.start()
thread.join()""",
    "small_steps_in_the_background": "[in_the_background(10) for _ in range(20)]; time.sleep(0.2)",
    "a_step_in_the_background": "in_the_background(300_000); time.sleep(0.2)",
    "a_step_without_the_gil": "in_the_background(5_000_000); time.sleep(0.2)",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_the_interpreter_ends_well_with(code, kind_of_threads):
    assert python(OPTIMIZER + code, kind_of_threads) == ""


class Blobs(Dataset):
    """Samples that take some work to make."""

    def __len__(self):
        return 64

    def __getitem__(self, i):
        source = torch.Generator().manual_seed(i)
        return torch.randn(50, 300, generator=source).mean(0)


def trained(workers, context):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 1000), nn.Tanh(), nn.Linear(1000, 1))
    opt = RMSProp(model.parameters(), lr=1e-3, momentum=0.9)
    how = {"multiprocessing_context": context, "timeout": LIMIT} if workers else {}
    for batch in DataLoader(Blobs(), batch_size=8, num_workers=workers, **how):
        opt.zero_grad()
        model(batch).square().mean().backward()
        opt.step()
    return parameters(opt)


@pytest.mark.parametrize("context", [pytest.param("fork", marks=can_fork), "spawn"])
def test_training_beside_the_workers_of_a_data_loader_gives_the_same(context, threads):
    threads(2)
    stepping()  # so that threads of either kind are there before the workers are
    assert all(map(torch.equal, trained(2, context), trained(0, None)))
