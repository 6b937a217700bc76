"""Which frameworks are driven, in which environment, with which of their arguments."""

import itertools

from conformance.framework import Case, Framework, inexact

# Exact in float32, since some frameworks keep their settings so even where they compute in float64.
LR, ALPHA, MU, DECAY, EPS, SMALL = 2.0**-6, 0.9375, 0.875, 2.0**-5, 2.0**-10, 2.0**-27
BOTH = (False, True)


def grid(**options: tuple) -> tuple[Case, ...]:
    """Every combination of some values of some arguments."""
    return tuple(
        dict(zip(options, chosen, strict=True)) for chosen in itertools.product(*options.values())
    )


def with_rate(name: str, *grids: tuple[Case, ...]) -> tuple[Case, ...]:
    """The defaults, then each case of these grids, all with a learning rate."""
    return tuple({name: LR} | case for case in ({}, *itertools.chain(*grids)))


TORCH = with_rate(
    "lr",
    grid(
        momentum=(0.0, MU),
        centered=BOTH,
        weight_decay=(0.0, DECAY),
        alpha=(ALPHA,),
        eps=(1e-8, EPS),
    ),
)
TF = {"momentum": (0.0, MU), "centered": BOTH, "epsilon": (SMALL, EPS)}
KERAS = {"momentum": (0.0, MU), "centered": BOTH, "rho": (ALPHA,), "epsilon": (SMALL, EPS)}
CLIPS = tuple(
    {"rho": ALPHA, "epsilon": SMALL} | clip
    for clip in (
        {"clipvalue": 0.25},
        {"clipvalue": 4.0, "momentum": MU},
        {"global_clipnorm": 0.5},
        {"global_clipnorm": 4.0, "momentum": MU, "centered": True},
    )
)

FRAMEWORKS = (
    Framework(
        "torch",
        "torch",
        "torch",
        "main",
        (
            {},
            *TORCH,
            *grid(maximize=(True,), weight_decay=(0.0, DECAY), momentum=(0.0, MU), foreach=BOTH),
        ),
        centered={"lr": LR, "centered": True},
    ),
    Framework(
        "tf.compat.v1",
        "tf1",
        "tensorflow_cpu",
        "main",
        with_rate("learning_rate", grid(decay=(ALPHA,), **TF)),
        rounds=inexact("decay"),
        centered={"learning_rate": LR, "centered": True},
    ),
    Framework(
        "keras",
        "keras",
        "keras",
        "main",
        (
            {},
            *with_rate("learning_rate", grid(weight_decay=(None, DECAY), **KERAS), CLIPS),
        ),
        rounds=lambda case: "global_clipnorm" in case,  # a minimum of float64 and a Python number
        centered={"learning_rate": LR, "centered": True},
    ),
    Framework(
        "tf_keras",
        "keras",
        "tf_keras",
        "main",
        (
            {},
            *with_rate("learning_rate", grid(weight_decay=(None, DECAY), **KERAS), CLIPS),
        ),
        centered={"learning_rate": LR, "centered": True},
    ),
    Framework(
        "tf_keras legacy",
        "tf_keras_legacy",
        "tf_keras",
        "main",
        ({}, *with_rate("learning_rate", grid(**KERAS), CLIPS)),
        rounds=inexact("rho"),
        centered={"learning_rate": LR, "centered": True},
    ),
    Framework(
        "optax",
        "optax",
        "optax",
        "main",
        with_rate(
            "learning_rate",
            grid(
                momentum=(None, MU),
                nesterov=BOTH,
                centered=BOTH,
                bias_correction=BOTH,
                eps_in_sqrt=BOTH,
                initial_scale=(0.0, 1.0),
                decay=(ALPHA,),
            ),
            grid(decay=(0.5,), eps=(EPS,), centered=BOTH, momentum=(0.0, MU)),
        ),
        centered={"learning_rate": LR, "centered": True},
    ),
    Framework(
        "jax",
        "jax",
        "jax",
        "main",
        with_rate(
            "step_size",
            grid(gamma=(ALPHA,), eps=(1e-8, EPS)),
            grid(gamma=(ALPHA,), momentum=(MU, 0.5), eps=(1e-8, EPS)),
        ),
    ),
    Framework(
        "timm",
        "timm",
        "timm",
        "main",
        (
            {},
            *with_rate(
                "lr",
                grid(
                    momentum=(0.0, MU),
                    centered=BOTH,
                    lr_in_momentum=BOTH,
                    decoupled_decay=BOTH,
                    weight_decay=(DECAY,),
                    eps=(1e-10, EPS),
                ),
                grid(
                    momentum=(0.0, MU),
                    centered=BOTH,
                    lr_in_momentum=BOTH,
                    corrected_weight_decay=(True,),
                    decoupled_decay=BOTH,
                    weight_decay=(DECAY,),
                ),
                grid(
                    momentum=(0.0, MU),
                    caution=(True,),
                    lr_in_momentum=BOTH,
                    centered=BOTH,
                    foreach=BOTH,
                ),
                grid(
                    momentum=(MU,),
                    caution=(True,),
                    weight_decay=(DECAY,),
                    decoupled_decay=BOTH,
                    alpha=(ALPHA,),
                    eps=(EPS,),
                ),
            ),
        ),
        centered={"lr": LR, "centered": True},
    ),
    Framework(
        "stable-baselines3",
        "sb3",
        "stable_baselines3",
        "main",
        ({}, *TORCH),
        centered={"lr": LR, "centered": True},
    ),
    Framework(
        "sonnet",
        "sonnet",
        "dm-sonnet",
        "main",
        with_rate("learning_rate", grid(decay=(ALPHA,), **TF)),
        rounds=inexact("decay"),
        centered={"learning_rate": LR, "centered": True},
    ),
    Framework(
        "mlx",
        "mlx",
        "mlx",
        "main",
        with_rate("learning_rate", grid(alpha=(ALPHA, 0.5), eps=(1e-8, EPS))),
    ),
    Framework(
        "river",
        "river",
        "river",
        "main",
        ({}, *with_rate("lr", grid(rho=(ALPHA, 0.5), eps=(1e-8, EPS)))),
    ),
    Framework(
        "bitsandbytes",
        "bitsandbytes",
        "bitsandbytes",
        "main",
        ({}, *with_rate("lr", grid(alpha=(ALPHA,), eps=(1e-8, EPS), weight_decay=(0.0, DECAY)))),
        float64=False,
    ),
    Framework(
        "heavyball",
        "heavyball",
        "heavyball",
        "main",
        (
            {},
            *with_rate(
                "lr", grid(betas=((0.9, ALPHA),), eps=(1e-6, EPS), weight_decay=(0.0, DECAY))
            ),
        ),
        float64=False,
    ),
    Framework(
        "chainer",
        "chainer",
        "chainer",
        "legacy",
        ({}, *with_rate("lr", grid(alpha=(ALPHA,), eps=(1e-8, EPS), eps_inside_sqrt=BOTH))),
    ),
    Framework(
        "chainer Graves",
        "graves",
        "chainer",
        "legacy",
        ({}, *with_rate("lr", grid(alpha=(ALPHA, 0.5), momentum=(MU, 0.5), eps=(1e-4, EPS)))),
        centered={"lr": LR, "momentum": 0.0},
    ),
    Framework(
        "mxnet",
        "mxnet",
        "mxnet",
        "legacy",
        (
            {},
            *with_rate(
                "learning_rate",
                grid(gamma1=(ALPHA,), epsilon=(SMALL, EPS), wd=(0.0, DECAY)),
                grid(
                    gamma1=(ALPHA,),
                    centered=(True,),
                    gamma2=(0.0, MU),
                    epsilon=(SMALL, EPS),
                    wd=(0.0, DECAY),
                ),
                ({"clip_gradient": 0.25}, {"clip_gradient": 0.25, "centered": True}),
            ),
        ),
        rounds=inexact("gamma1"),
        centered={"learning_rate": LR, "centered": True, "gamma2": 0.0},
    ),
    Framework(
        "paddle",
        "paddle",
        "paddlepaddle",
        "paddle",
        with_rate(
            "learning_rate",
            grid(rho=(ALPHA,), weight_decay=(None, DECAY), **TF),
        ),
        rounds=inexact("rho"),
        centered={"learning_rate": LR, "centered": True},
    ),
)
