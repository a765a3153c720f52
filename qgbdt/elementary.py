"""exp and log for functions that numba compiles: those of csrc/elementary.h, bit by bit.

The machine's differ between machines, and call a library for each row; these are arithmetic, which
is vectorized.
"""

import math
import types
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
TO_INTEGER_BITS = 1.5 * 2.0**52
MAX_EXPONENT = 708.0
LEAST_NORMAL = 2.0**-1022
SQRT_HALF = 0.70710678118654752440
MANTISSA, HALF = 0x000FFFFFFFFFFFFF, 0x3FE0000000000000


def reinterpreted(source: Any, target: Any, width: Any) -> Any:
    """The bits of a number as one of another type."""

    @intrinsic
    def bits(context, value):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.bitcast(arguments[0], width)

        return target(source), generate

    return bits


bits_of = reinterpreted(numba.float64, numba.int64, ir.IntType(64))
of_bits = reinterpreted(numba.int64, numba.float64, ir.DoubleType())


@numba.njit(error_model="numpy")
def exp(x):  # type: ignore[no-untyped-def]
    """Finite for every number: it stays as it is beyond +-708."""
    x = -MAX_EXPONENT if x < -MAX_EXPONENT else x
    x = MAX_EXPONENT if x > MAX_EXPONENT else x
    t = x * LOG2_E + TO_INTEGER_BITS
    n = t - TO_INTEGER_BITS
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 1.0 / 2.0
    p = p * r + 1.0
    p = p * r + 1.0
    return p * of_bits((bits_of(t) + 1023) << 52)


@numba.njit(error_model="numpy")
def log(x):  # type: ignore[no-untyped-def]
    """-inf of 0 and of what is smaller than a normal number, NaN of negative numbers."""
    x = float(x)
    bits = bits_of(x)
    m = of_bits((bits & MANTISSA) | HALF)
    e = (bits >> 52) - 1022
    is_low = m < SQRT_HALF
    m = m * 2 if is_low else m
    e = e - 1 if is_low else e
    s = (m - 1) / (m + 1)
    z = s * s
    p = 1.0 / 21
    p = p * z + 1.0 / 19
    p = p * z + 1.0 / 17
    p = p * z + 1.0 / 15
    p = p * z + 1.0 / 13
    p = p * z + 1.0 / 11
    p = p * z + 1.0 / 9
    p = p * z + 1.0 / 7
    p = p * z + 1.0 / 5
    p = p * z + 1.0 / 3
    q = s + s * (z * p)
    found = e * LN2_HIGH + (2.0 * q + e * LN2_LOW)
    found = found if x < np.inf else x  # NaN is itself, too
    found = found if x >= LEAST_NORMAL or x != x else -np.inf
    return np.nan if x < 0 else found


OURS: dict[Any, Any] = {math.exp: exp, np.exp: exp, math.log: log, np.log: log}


def with_ours(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with exp and log of this module wherever it names those of NumPy or math."""

    def replaced(value: Any) -> Any:
        if value is np or value is math:
            return stand_in(value)
        return next((ours for theirs, ours in OURS.items() if value is theirs), value)

    cells = [types.CellType(replaced(cell.cell_contents)) for cell in function.__closure__ or ()]
    named = {name: replaced(value) for name, value in function.__globals__.items()}
    same = types.FunctionType(function.__code__, named, function.__name__, None, tuple(cells))
    same.__defaults__, same.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return same


def stand_in(module: types.ModuleType) -> types.ModuleType:
    """The module with this module's functions."""
    other = types.ModuleType(module.__name__)
    other.__dict__.update(vars(module))
    other.exp, other.log = exp, log  # type: ignore[attr-defined]
    return other
