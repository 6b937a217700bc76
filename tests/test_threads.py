"""A step gives one result on any threads, and leaves no trace on them; both kinds of threads."""

import itertools
import threading
from pathlib import Path

import pytest
import torch
from conftest import python
from torch import nn
from twins import copies, parameters, set_gradients

from meansquare import RMSProp

MANY = 300_000  # elements, enough for a step to use more than one thread
WITHOUT_GIL = 700_000  # elements, enough to let other Python threads run meanwhile
COUNTS = (2, 3, 7)

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no Linux /proc")


def mixed_layouts(dtype):
    source = torch.Generator().manual_seed(0)
    wide = torch.randn(90, 1000, generator=source).to(dtype)
    views = (wide, wide[0], wide[::2, ::3])  # of one memory
    apart = (wide.T[3:].contiguous().T, wide.flatten()[:70_001].clone(), wide.repeat(8, 1))
    return [nn.Parameter(x) for x in (*views, *apart)]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_any_number_of_threads_gives_the_same_bits(dtype, threads):
    def train(count):
        threads(1)
        opt = RMSProp(mixed_layouts(dtype), momentum=0.9, centered=True)
        for t in range(2):
            set_gradients(t, parameters(opt))
            threads(count)
            opt.step()
            threads(1)
        return [*parameters(opt), *(s["square_avg"] for s in opt.state.values())]

    alone = train(1)
    for count in COUNTS:
        assert all(map(torch.equal, train(count), alone))


JOB = 1 << 14  # elements that a thread takes at a time


def overlapping():
    buffer = torch.ones(JOB)
    params = [nn.Parameter(buffer[:]) for _ in range(60)]
    set_gradients(0, params)
    return params


def in_a_ring():
    """Each parameter is the gradient of the next."""
    source = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(JOB, generator=source)) for _ in range(60)]
    for p, gradient in zip(params, params[-1:] + params[:-1], strict=True):
        p.grad = gradient.detach()
    return params


@pytest.mark.parametrize("make", [overlapping, in_a_ring])
def test_threads_do_not_race_for_memory_that_rows_share(make, threads):
    def stepped(count):
        threads(count)
        opt = RMSProp(make(), lr=0.05, weight_decay=0.5)
        for _ in range(30):
            opt.step()
        return parameters(opt)

    assert all(map(torch.equal, stepped(1), stepped(4)))


def test_no_job_is_lost_or_done_twice_over_thousands_of_steps(threads):
    threads(3)
    p = torch.zeros(MANY)
    p.grad = torch.ones_like(p)
    opt = RMSProp([p], lr=1.0, alpha=0.0, eps=0.0)
    for _ in range(2000):
        opt.step()
    assert p.unique().tolist() == [-2000]


def at_once(opts, steps):
    """Each optimizer in a Python thread of its own."""

    def run(opt):
        for _ in range(steps):
            opt.step()

    running = [threading.Thread(target=run, args=(opt,)) for opt in opts]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


@pytest.mark.parametrize("size", [10, 100_000, MANY])
def test_two_threads_step_one_module_with_two_optimizers(size, threads):
    threads(2)
    p = nn.Parameter(torch.zeros(size))
    p.grad = torch.ones(size)
    opts = [RMSProp([p], lr=1e-3) for _ in range(2)]
    alone = RMSProp([q := nn.Parameter(torch.zeros(size))], lr=1e-3)
    q.grad = p.grad.clone()
    at_once(opts, 100)
    at_once([alone], 100)
    for opt in opts:
        assert torch.equal(opt.state[p]["square_avg"], alone.state[q]["square_avg"])
        assert opt.state[p]["step"] == 100
    # Both move one weight; of two moves at the same time one may be lost, as with torch.
    assert bool((p <= q * (1 - 1e-4)).all())
    assert bool((p >= 2 * q * (1 + 1e-4)).all())


@pytest.mark.parametrize("size", [150_000, WITHOUT_GIL])
@pytest.mark.parametrize(("modules", "count"), [(2, 2), (2, 7), (5, 3)])
def test_python_threads_step_their_modules_as_one_thread_would(modules, count, size, threads):
    threads(count)
    opts = [RMSProp([nn.Parameter(torch.ones(size))], momentum=0.9) for _ in range(modules)]
    alone = [RMSProp(copies(parameters(opt)), momentum=0.9) for opt in opts]
    for opt in (*opts, *alone):
        set_gradients(0, parameters(opt))
    at_once(opts, 30)
    for opt, single in zip(opts, alone, strict=True):
        at_once([single], 30)
        assert torch.equal(*parameters(opt), *parameters(single))


@pytest.fixture
def flushing():
    """Sets whether subnormal numbers become zero, in the calling thread."""
    yield torch.set_flush_denormal
    torch.set_flush_denormal(False)


def test_the_callers_flushing_of_subnormals_holds_on_all_threads_for_the_step(threads, flushing):
    threads(3)
    small = torch.full((MANY,), 1e-30)
    for flush in (False, True, False, True):
        p = small * 1e-10
        p.grad = torch.zeros_like(p)
        assert flushing(flush)
        RMSProp([p]).step()
        assert flushing(False)
        assert torch.count_nonzero(p.view(torch.int32)) == (0 if flush else MANY)
        # The same threads run torch's own operations, which expect them as they were.
        assert torch.count_nonzero((small * 1e-10).view(torch.int32)) == MANY


STEPS = """
import os, time
from pathlib import Path

def tasks():
    return len(os.listdir("/proc/self/task"))

def started(opt, count, steps=20):
    # torch starts threads of another kind as the number is set.
    torch.set_num_threads(count)
    before = tasks()
    for _ in range(steps):
        opt.step()
    return tasks() - before

def filled(size):
    # torch would fill the tensors on many threads.
    torch.set_num_threads(1)
    p = torch.zeros(size)
    p.grad = torch.ones_like(p)
    opt = RMSProp([p])
    opt.step()
    return opt

opt = filled(300_000)
"""


@needs_proc
@pytest.mark.parametrize("counts", [(1, 2, 3), (1, 1, 7), (4, 4, 4)])
def test_a_step_starts_no_more_threads_than_torch_is_set_to(counts, kind_of_threads):
    told = python(f"{STEPS}print(*[started(opt, n) for n in {counts}])", kind_of_threads)
    assert tuple(1 + n for n in itertools.accumulate(map(int, told.split()))) == counts


@needs_proc
def test_a_small_step_starts_no_thread(kind_of_threads):
    assert python(STEPS + "print(started(filled(1 << 17), 4))", kind_of_threads) == "0\n"


IDLE = """
def awake():
    # Numbers of the other threads that are not asleep.
    told = {p.parent.name: p.read_text() for p in Path("/proc/self/task").glob("*/stat")}
    told.pop(str(os.getpid()))
    return [n for n, stat in told.items() if stat.rpartition(")")[2].split()[0] != "S"]

def at_rest(looks=40, seconds=60):
    # Whether they all sleep in so many looks one after the other, before the time is over.
    end, asleep = time.monotonic() + seconds, 0
    while asleep < looks and time.monotonic() < end:
        asleep = 0 if awake() else asleep + 1
        time.sleep(0.005)
    return asleep == looks

print(started(opt, 3, steps=200) > 0, at_rest())
"""


@needs_proc
def test_threads_come_to_rest_after_a_step(kind_of_threads):
    assert python(STEPS + IDLE, kind_of_threads) == "True True\n"


@needs_proc
def test_no_second_openmp_runtime_is_in_the_process(kind_of_threads):
    look = """
started(opt, 3)
names = {os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps")}
print(*(name for name in names if Path(name).name.startswith(("libgomp", "libiomp", "libomp"))))
"""
    assert len(python(STEPS + look, kind_of_threads).split()) == 1


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("size", [(9, 8), (900, 1200)])
def test_threads_that_share_one_optimizer_take_turns(size, columns):
    p, alone = (nn.Parameter(torch.ones(size)[:, ::columns]) for _ in range(2))
    p.grad, alone.grad = torch.ones(p.shape), torch.ones(p.shape)
    opt, single = RMSProp([p], momentum=0.9), RMSProp([alone], momentum=0.9)
    at_once([opt] * 3, 20)
    at_once([single], 60)
    assert torch.equal(p, alone)
    assert opt.state[p]["step"] == 60


def test_a_state_dict_is_loaded_while_another_thread_steps(threads):
    threads(2)
    opt = RMSProp([p := nn.Parameter(torch.ones(800, 1200)[:, ::2])], momentum=0.9)
    p.grad = torch.ones(p.shape)
    thread = threading.Thread(target=at_once, args=([opt], 100))
    thread.start()
    for _ in range(20):
        opt.load_state_dict(opt.state_dict())
    thread.join()
    assert p.isfinite().all()


def many_rows():
    """Enough rows and elements to be looked at on several threads, of every kind among them."""
    source = torch.Generator().manual_seed(0)
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.complex64)
    views = (lambda x: x, lambda x: x.t(), lambda x: x[:, ::2])
    return [
        nn.Parameter(views[i % 3](torch.randn(20, 40, generator=source).to(kinds[i % 4])))
        for i in range(600)
    ]


def test_many_rows_give_the_same_bits_on_any_number_of_threads(threads):
    def train(count):
        threads(count)
        opt = RMSProp(many_rows(), momentum=0.9, bias_correction=True)
        for t in range(4):
            set_gradients(t, parameters(opt))
            opt.step()
        return parameters(opt)

    alone = train(1)
    for count in COUNTS:
        assert all(map(torch.equal, train(count), alone))


def test_a_bad_row_among_many_is_found_on_several_threads(threads):
    threads(3)
    opt = RMSProp(many_rows(), momentum=0.9)
    for t in range(2):
        set_gradients(t, parameters(opt))
        opt.step()
    opt.state[parameters(opt)[555]]["square_avg"].untyped_storage().resize_(0)
    before = [p.detach().clone() for p in parameters(opt)]
    with pytest.raises(ValueError, match=r"state 'square_avg' of parameter 555 .* lost its memory"):
        opt.step()
    assert all(map(torch.equal, parameters(opt), before))
