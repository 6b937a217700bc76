"""Training spread over processes goes as it does in one."""

import itertools

import pytest
import spread
import torch
from ranks import ranks
from spread import PLACED, SHAPES, WAYS

from meansquare import SGD, AdaGrad, Adam, RMSProp

SETTINGS = {
    "plain": (RMSProp, {"lr": 1e-2}),
    "centered": (RMSProp, {"lr": 1e-2, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    "limited norm": (RMSProp, {"lr": 1e-2, "max_grad_norm": 0.05}),
    "limited updates": (RMSProp, {"lr": 0.1, "max_update_rms": 0.5}),
    "both": (RMSProp, {"lr": 0.1, "max_grad_norm": 0.05, "max_update_rms": 0.5}),
    "cautious": (RMSProp, {"lr": 1e-2, "momentum": 0.9, "cautious": True}),
    "SGD": (SGD, {"lr": 2.0, "momentum": 0.9, "max_grad_norm": 0.05}),
    "AdaGrad": (AdaGrad, {"lr": 0.1}),
    "Adam": (Adam, {"lr": 0.1, "max_update_rms": 0.5}),
}
# In float64, gradients and norms are sums in another order: 1e-16 of each, times what eight steps
# make of it; a gradient near zero has its step's sign and size from that rest.
SUMMED_OTHERWISE = {"rel": 1e-9}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", WAYS)
def test_losses_are_those_of_one_process(way, settings, size):
    kind, options = SETTINGS[settings]
    told = ranks(size).call(spread.together, way, kind, options)
    wanted = spread.alone(kind, options)
    assert wanted[-1] < 0.9 * wanted[0]
    for losses, _ in told:
        assert losses == pytest.approx(wanted, **SUMMED_OTHERWISE)
    assert len({tuple(parameters) for _, parameters in told}) == 1


EXACT = [
    *itertools.product(PLACED, SHAPES, [torch.float32, torch.bfloat16], ["centered"]),
    *itertools.product(["rows of columns"], ["uneven"], [torch.float64, torch.float16], ["plain"]),
    *itertools.product(["rows"], ["uneven"], [torch.complex64], ["plain"]),
    *itertools.product(PLACED, ["uneven"], [torch.bfloat16], ["SGD", "AdaGrad"]),
]


@pytest.mark.parametrize(("placed", "shape", "dtype", "settings"), EXACT)
def test_a_distributed_tensor_is_stepped_bit_for_bit_as_the_whole(placed, shape, dtype, settings):
    kind, options = SETTINGS[settings]
    options = {**options, "max_grad_norm": None}
    wanted = spread.stepped(None, shape, dtype, kind, options)
    for got in ranks(4).call(spread.stepped, placed, shape, dtype, kind, options):
        assert got == wanted


@pytest.mark.parametrize("settings", ["centered", "both", "limited updates"])
@pytest.mark.parametrize("placed", PLACED)
def test_torch_operations_step_a_part_as_the_kernels_do(placed, settings):
    kind, options = SETTINGS[settings]
    for dtype, share, rounding in ((torch.float64, 0, 1e-12), (torch.bfloat16, 0.95, 2**-6)):
        what = ("uneven", dtype, kind, options)
        wanted = [
            read(x, t) for x, t in zip(spread.stepped(None, *what), dtypes(dtype), strict=False)
        ]
        for got in ranks(4).call(spread.stepped_by_torch, placed, *what):
            for x, y, t in zip(got, wanted, dtypes(dtype), strict=False):
                x = read(x, t)
                assert torch.allclose(x, y, rtol=rounding)
                # of bfloat16 few differ, as the same random bits round nearly the same numbers
                assert (x == y).double().mean() >= (share if t == dtype else 0)


def dtypes(dtype):
    """Those of a parameter and its state."""
    state = torch.float64 if dtype == torch.float64 else torch.float32
    return dtype, state, state, state


def read(values, dtype):
    return torch.frombuffer(bytearray(values), dtype=dtype)


def test_mixed_precision_of_fsdp_trains_as_on_one_rank():
    wanted = ranks(4).call(spread.mixed, 1)[0]
    assert wanted[-1] < 0.9 * wanted[0]
    for size in (2, 4):
        for losses in ranks(4).call(spread.mixed, size):
            # bfloat16 has 8 bits, and other batches are summed in it
            assert losses == pytest.approx(wanted, rel=2**-6)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.5}, {"max_update_rms": 0.5}])
def test_a_parameter_may_be_on_one_rank_only(options, both):
    shared, expert = spread.with_an_expert(options, both, True)
    *others, last = ranks(4).call(spread.with_an_expert, options, both, False)
    assert {parameters[0] for parameters in others} == {last[0]}
    for got, wanted in ((last[0], shared), (last[1], expert)):
        got, wanted = (read(x, torch.float64) for x in (got, wanted))
        assert torch.allclose(got, wanted, rtol=1e-12, atol=0)  # squares are added in parts


def test_an_overflow_on_one_rank_skips_the_step_on_all():
    for told in ranks(4).call(spread.overflowing, "FSDP2"):
        assert told == [(1, False, 1024.0), (1, True, 512.0), (2, False, 512.0)]
