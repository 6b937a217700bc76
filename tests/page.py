"""docs/family.md as its tests read it, and the optimizers that it is about."""

import html
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD

TEXT = (Path(__file__).parents[1] / "docs" / "family.md").read_text()
MU, DECAY = 0.9, 0.01
ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gradient descent": (SGD, {}),
    "Momentum": (SGD, {"momentum": MU}),
    "Nesterov": (SGD, {"momentum": MU, "nesterov": True}),
    "sign descent": (SignSGD, {}),
    "Rprop": (Rprop, {}),
    "AdaGrad": (AdaGrad, {}),
    "RMSProp": (RMSProp, {}),
    "RMSProp with momentum": (RMSProp, {"momentum": MU}),
    "RMSProp centered": (RMSProp, {"centered": True}),
    "RMSProp with both": (RMSProp, {"momentum": MU, "centered": True}),
    "RMSProp corrected": (RMSProp, {"bias_correction": True}),
    "Adam": (Adam, {}),
    "AdamW": (AdamW, {"weight_decay": DECAY}),
    "AMSGrad": (Adam, {"amsgrad": True}),
}
"""A name on the page: the optimizer, and the settings that make it this one."""


def options_of(name, **numbers):
    """The settings of a row, with other numbers where its optimizer and its row have them."""
    kind, options = ROWS[name]
    always = {"lr", "alpha", "eps", "betas", "etas", *options} & {*kind._kind.names()}
    return options | {key: value for key, value in numbers.items() if key in always}


def letters_of(name):
    """What the letters of a cell stand for: the settings, which are the defaults for the most."""
    hyper = ROWS[name][0]._kind.checked(ROWS[name][1], name)
    words = {key: getattr(hyper, key) for key in hyper.names()} | {"sqrt": math.sqrt}
    beta1, beta2 = words.get("betas", (None, None))
    return words | {"mu": words.get("momentum"), "beta1": beta1, "beta2": beta2}


def moves(kind, gradients, dtype=torch.float64, start=0.0, **options):
    """How far each step goes, always from the same start, so that no large weight rounds it off."""
    gradients = torch.as_tensor(gradients, dtype=dtype)
    p = nn.Parameter(torch.full_like(gradients[0], start))
    opt, far = kind([p], **options), torch.empty_like(gradients)
    for i, p.grad in enumerate(gradients):
        opt.step()
        far[i] = start - p.detach()
        p.data.fill_(start)
    return far


def buffers_after(name, gradients, dtype=torch.float32, **numbers):
    """The state of some weights after these gradients, without the count of steps."""
    p = nn.Parameter(torch.zeros_like(torch.as_tensor(gradients[0], dtype=dtype)))
    opt = ROWS[name][0]([p], **options_of(name, **numbers))
    for g in gradients:
        p.grad = torch.as_tensor(g, dtype=dtype)
        opt.step()
    return {key: value for key, value in opt.state[p].items() if key != "step"}


def table_of(heading):
    """The table under a heading: its rows by their first cell, each as cells by column."""
    under = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in under.splitlines() if line.startswith("|")]
    columns, _, *rows = ([x.strip() for x in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}


@dataclass
class Maths:
    """The lines of one optimizer; a line is its characters, each with whether it is bold."""

    parent: str | None
    remembers: list[list] = field(default_factory=list)
    moves: list = field(default_factory=list)

    @property
    def code(self):
        return "\n".join(_plain(line).strip() for line in (*self.remembers, self.moves))

    @property
    def tokens(self):
        """Pairs: a word or sign, and whether it is bold."""
        lines = (*self.remembers, self.moves)
        characters = [pair for line in lines for pair in (*line, (" ", False))]
        found = re.finditer(r"\w+|\*\*|\S", _plain(characters))
        return [(token[0], characters[token.start()][1]) for token in found]


def maths_of_the_page():
    header, *lines = re.search(r"<pre>\n(.*?)\n</pre>", TEXT, re.DOTALL)[1].splitlines()
    left, right = header.index("each step"), header.index("and then")
    maths, ancestors = {}, {}
    for line in map(_characters, lines):
        name = _plain(line[:left])
        if name.strip():
            indent = len(name) - len(name.lstrip())
            ancestors = {depth: one for depth, one in ancestors.items() if depth < indent}
            last = Maths(ancestors[max(ancestors)] if ancestors else None)
            ancestors[indent] = name.strip()
            maths[name.strip()] = last
        if _plain(line[left:right]).strip():
            last.remembers.append(line[left:right])
        last.moves += line[right:]
    return maths


def _characters(line):
    pairs, bold = [], False
    for part in re.split(r"(</?b>)", line):
        if part in ("<b>", "</b>"):
            bold = part == "<b>"
        else:
            pairs += [(character, bold) for character in html.unescape(part)]
    return pairs


def _plain(characters):
    return "".join(character for character, _ in characters)


def claims_of_the_page():
    """What follows: heading -> its text."""
    under = TEXT.split("\n## What follows\n")[1].split("\n## ")[0]
    _, *parts = re.split(r"^### (.*)\n", under, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def anchor(heading):
    """The name that GitHub gives to a heading in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
