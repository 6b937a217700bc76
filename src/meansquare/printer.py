"""A rule as C++ and as Triton, printed from its trace."""

import math

from meansquare.hyper import Rule
from meansquare.trace import RUNTIME, Line, Operand, Tape, trace

BUFFERS = 3
"""The most buffers that a rule may have in C++."""


def cpp_rule(rule: Rule) -> str:
    """A struct named `rule.key`: what csrc/step.h asks of a rule."""
    traced = rule.traced()
    body = [_cpp_line(line) for line in traced.tape.lines]
    body += _cpp_results(_written(rule), traced.results)
    numbers = (*RUNTIME, *rule.numbers)
    more = ""
    if rule.measure:
        more = f"""
    using measure = {rule.measure.key};"""
    return f"""
struct {rule.key} {{
    static constexpr int buffers = {len(rule.buffers)}, numbers = {len(numbers)};
    static constexpr bool timed = {str(traced.tape.timed).lower()};
    {_cpp_fold(traced.tape, numbers)}
    template <class T>
    static inline void step(const Coefficients<T, coefficients>& h, T& p, T g, {_slots()}) {{
        {_joined(body, 8)}
    }}{more}
}};"""


def _cpp_results(streams: tuple[str, ...], results: tuple[Operand, ...]) -> list[str]:
    """Assignments; what another stream held before is put aside first."""
    changed = [(s, r) for s, r in zip(streams, results, strict=True) if s != r]
    old = [r for _, r in changed if r in ("g", *streams)]
    aside = [f"const T old_{r} = {r};" for r in dict.fromkeys(old)]
    return aside + [f"{s} = {f'old_{r}' if r in old else _cpp_value(r)};" for s, r in changed]


def _written(rule: Rule) -> tuple[str, ...]:
    return ("p", *rule.letters[2:])


def _slots() -> str:
    return ", ".join(f"T& s{i}" for i in range(BUFFERS))


def _joined(lines: list[str], indent: int) -> str:
    return f"\n{' ' * indent}".join(lines)


def cpp_measure(rule: Rule) -> str:
    """A struct named after what a rule measures before a step: what csrc/measure.h asks of it."""
    measure = rule.measure
    assert measure is not None
    numbers = (*RUNTIME, *rule.numbers)
    slots = [rule.buffers.index(name) for name in measure.buffers]
    streams = ("p", "g", *(f"s{i}" for i in slots))
    traced = trace(measure.of, streams, rule.numbers)
    body = [_cpp_line(line) for line in traced.tape.lines]
    reads = ", ".join(map(str, slots))
    result = _cpp_value(traced.results[0])
    result = f"{result} ? T(1) : T(0)" if measure.is_share else result
    takes = ", ".join(f"T {s}" for s in ("p", "g", *(f"s{i}" for i in range(BUFFERS))))
    return f"""
struct {measure.key} {{
    static constexpr bool is_share = {str(measure.is_share).lower()};
    static constexpr int l2 = {traced.tape.coefficients.index("l2")}, slots[] = {{{reads}}};
    {_cpp_fold(traced.tape, numbers)}
    template <class T>
    static inline T of(const Coefficients<T, coefficients>& h, {takes}) {{
        {_joined(body, 8)}
        return {result};
    }}
}};"""


def _cpp_fold(tape: Tape, numbers: tuple[str, ...]) -> str:
    def value(x: Operand) -> str:
        if not isinstance(x, str):
            return _literal(x)
        return x.replace("#", "n") if x.startswith("#") else f"x[{numbers.index(x)}]"

    body = []
    for line in tape.host:
        x = tuple(map(value, line.operands))
        expression = {
            "**": lambda x: f"std::pow({x[0]}, {x[1]})",
            "sqrt": lambda x: f"std::sqrt({x[0]})",
            "abs": lambda x: f"std::abs({x[0]})",
            "choose": lambda x: f"{x[0]} != 0.0 ? {x[1]} : {x[2]}",
        }.get(line.operator, lambda x, op=line.operator: f"{x[0]} {op} {x[1]}")(x)
        body.append(f"const double {value(line.result)} = {expression};")
    for i, source in enumerate(tape.coefficients):
        known = "" if source.startswith("#") else f"  // {source}"
        body.append(f"h[{i}] = {value(source)};{known}")
    return f"""static constexpr int coefficients = {len(tape.coefficients)};
    static void fold([[maybe_unused]] const double* x, double* h) {{
        {_joined(body, 8)}
    }}"""


def _literal(x: float) -> str:
    if math.isfinite(x):
        return repr(x)
    return "NAN" if math.isnan(x) else f"{'-' if x < 0 else ''}INFINITY"


def _cpp_value(x: Operand) -> str:
    if not isinstance(x, str):
        return f"T({_literal(x)})"
    return f"h.x[{x[1:]}]" if x.startswith("c") else x


def _cpp_line(line: Line) -> str:
    def condition(x: Operand) -> str:
        return _cpp_value(x) if str(x).startswith("t") else f"{_cpp_value(x)} != T(0)"

    x = tuple(map(_cpp_value, line.operands))
    if line.operator in "<>":
        return f"const bool {line.result} = {x[0]} {line.operator} {x[1]};"
    expression = {
        "sqrt": lambda: f"std::sqrt({x[0]})",
        "abs": lambda: f"std::abs({x[0]})",
        "or_zero": lambda: f"or_zero({x[0]}, {x[1]})",
        "choose": lambda: f"{condition(line.operands[0])} ? {x[1]} : {x[2]}",
    }.get(line.operator, lambda: f"{x[0]} {line.operator} {x[1]}")()
    return f"const T {line.result} = {expression};"


def triton_rule(rule: Rule) -> str:
    """A device function of the streams and of where the folded coefficients lie."""
    traced = rule.traced()
    names = [f"s{i}" for i in range(BUFFERS)]
    lines = [f"c{i} = tl.load(h + {i})" for i in range(len(traced.tape.coefficients))]
    lines += map(_triton_line, traced.tape.lines)
    results = (*map(str, traced.results), *names[len(rule.buffers) :])
    return f"""

@triton.jit
def {rule.key}(h, p, g, {", ".join(names)}):
    {_joined(lines, 4)}
    return {", ".join(results)}
"""


def _triton_line(line: Line) -> str:
    x = tuple(str(operand) for operand in line.operands)
    first = line.operands[0]
    condition = f"{first} != 0" if str(first).startswith("c") else str(first)
    expression = {
        "/": lambda: f"tl.div_rn({x[0]}, {x[1]})",
        "sqrt": lambda: f"tl.sqrt_rn({x[0]})",
        "abs": lambda: f"tl.abs({x[0]})",
        "or_zero": lambda: f"tl.where(tl.abs({x[0]}) < {x[1]}, 0.0, {x[0]})",
        "choose": lambda: f"tl.where({condition}, {x[1]}, {x[2]})",
    }.get(line.operator, lambda: f"{x[0]} {line.operator} {x[1]}")()
    return f"{line.result} = {expression}"
