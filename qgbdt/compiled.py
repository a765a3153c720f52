"""Objectives and metrics of the user's own that are compiled: all threads call them at once.

numba compiles them. It is imported when the first one is trained with.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, Self, get_args, overload

from qgbdt.booster import CustomFields
from qgbdt.custom import GradientFunction, source_hash
from qgbdt.errors import ParameterError
from qgbdt.params import is_real
from qgbdt.validation import Rows

Link = Literal["identity", "logistic", "exponential"]


class Compiled:
    """A function of two numbers of a row, and of parameters, which are numbers with defaults."""

    kind: str  # for messages, as the next
    returns: str
    n_results: int  # numbers that it returns

    def __init__(
        self, function: Callable[..., Any], parameters: dict[str, float] | None = None
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.parameters = defaults_of(function) if parameters is None else parameters

    def __call__(self, first: float, target: float) -> Any:
        """The function itself, in Python."""
        return self.function(first, target, **self.parameters)

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        return f"qgbdt.{self.kind}({self.name}{given})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_compiled"}

    def with_parameters(self, **parameters: float) -> Self:
        """The same with other parameters.

        Parameters
        ----------
        **parameters : float
            By name.
        """
        for name, value in parameters.items():
            if name not in self.parameters or not is_real(value):
                raise ParameterError(
                    f"{self.name} takes numbers as its parameters {list(self.parameters)}. Got "
                    f"{name}={value!r}."
                )
        other = object.__new__(type(self))
        other.__dict__ = self.__getstate__() | {"parameters": {**self.parameters, **parameters}}
        return other

    @property
    def parameters_text(self) -> str:
        """The parameters as a model file has them."""
        return " ".join(f"{name}={float(value)!r}" for name, value in self.parameters.items())

    @cached_property
    def _compiled(self) -> Any:
        try:
            import numba

            from qgbdt.elementary import with_ours
        except ImportError as error:
            raise ParameterError(
                f"The {self.kind} {self.name} needs numba to compile it: pip install numba."
            ) from error
        values = tuple(float(value) for value in self.parameters.values())
        array: Any = numba.types.CPointer(numba.float64)  # type: ignore[no-untyped-call]
        signature = numba.void(numba.int64, *[array] * (2 + self.n_results))
        rows = loop_of(
            numba.njit(error_model="numpy")(with_ours(self.function)), values, self.n_results
        )
        try:
            return numba.cfunc(signature, error_model="numpy")(rows)
        except numba.core.errors.NumbaError as error:
            raise ParameterError(
                f"The {self.kind} {self.name} cannot be compiled. It must return {self.returns}, "
                f"all numbers. numba says: {error}"
            ) from error


def loop_of(of_row: Any, values: tuple[float, ...], n_results: int) -> Callable[..., None]:
    """The loop over rows, for numba to compile."""
    from numba import carray  # type: ignore[attr-defined]

    def losses(n, first, target, out):  # type: ignore[no-untyped-def]
        firsts, targets, outs = carray(first, n), carray(target, n), carray(out, n)
        for i in range(n):
            outs[i] = of_row(firsts[i], targets[i], *values)

    def gradients(n, score, target, gradient, hessian):  # type: ignore[no-untyped-def]
        scores, targets = carray(score, n), carray(target, n)
        gs, hs = carray(gradient, n), carray(hessian, n)
        for i in range(n):
            g, h = of_row(scores[i], targets[i], *values)
            gs[i] = g
            hs[i] = h

    return losses if n_results == 1 else gradients


def defaults_of(function: Callable[..., Any]) -> dict[str, float]:
    """The defaults of a function's arguments after the first two."""
    arguments = list(inspect.signature(function).parameters.values())
    if len(arguments) < 2:
        raise ParameterError(f"{function.__name__} must take two numbers and its parameters.")
    for one in arguments[2:]:
        if not is_real(one.default):
            raise ParameterError(
                f"The parameter {one.name} of {function.__name__} needs a number as its default."
            )
    return {one.name: one.default for one in arguments[2:]}


class CompiledObjective(Compiled):
    """What `qgbdt.objective` makes of a function; see there."""

    kind, returns, n_results = "objective", "(gradient, hessian) of (score, target)", 2

    def __init__(self, function: Callable[..., Any], link: Link = "identity") -> None:
        super().__init__(function)
        self.link = link

    @property
    def fields(self) -> CustomFields:
        """What a model file keeps of it."""
        return CustomFields(self.name, self.link, source_hash(self.function), self.parameters_text)

    def of_all_rows(self, rows: Rows, n_outputs: int) -> GradientFunction | None:
        """None: it is of single rows."""
        return None

    def of_single_rows(self, n_outputs: int) -> int:
        """The address of the compiled function."""
        if n_outputs > 1:
            raise ParameterError(
                f"The objective {self.name} is of one score a row, but there are {n_outputs} "
                "classes."
            )
        return int(self._compiled.address)


class CompiledMetric(Compiled):
    """What `qgbdt.metric` makes of a function; see there."""

    kind, returns, n_results = "metric", "the loss of (prediction, target)", 1

    def __init__(self, function: Callable[..., Any], is_higher_better: bool = False) -> None:
        super().__init__(function)
        self.is_higher_better = is_higher_better

    @property
    def fields(self) -> tuple[str, bool, str, str]:
        """What workers must agree on."""
        hashed = source_hash(self.function)
        return self.name, self.is_higher_better, hashed, self.parameters_text

    def of_single_rows(self, n_outputs: int, query_sizes: Any) -> int:
        """The address of the compiled function."""
        if n_outputs > 1 or query_sizes is not None:
            raise ParameterError(
                f"The metric {self.name} is of one prediction a row: it is not for rankers, nor "
                "for more than two classes."
            )
        return int(self._compiled.address)


@overload
def objective(function: Callable[..., Any], /) -> CompiledObjective: ...
@overload
def objective(*, link: Link) -> Callable[[Callable[..., Any]], CompiledObjective]: ...
def objective(
    function: Callable[..., Any] | None = None, /, *, link: Link = "identity"
) -> CompiledObjective | Callable[[Callable[..., Any]], CompiledObjective]:
    """Make an objective that is compiled of a function of one row.

    Parameters
    ----------
    function : callable
        ``f(score, target)`` that returns (gradient, hessian) of the row's loss by its raw score.
        Further parameters have defaults, which are numbers; ``with_parameters`` changes them.
        Weights are multiplied in afterwards. Its ``np.exp``, ``np.log``, ``math.exp`` and
        ``math.log`` are those of qgbdt, the same on every machine; exp stays finite.
    link : {'identity', 'logistic', 'exponential'}, default='identity'
        What predictions are of raw scores.

    Returns
    -------
    CompiledObjective
        For the parameter ``objective`` of an estimator.

    Examples
    --------
    >>> import numpy as np
    >>> import qgbdt
    >>> @qgbdt.objective
    ... def pseudo_huber(score, target, width=1.0):
    ...     error = (score - target) / width
    ...     root = np.sqrt(1 + error * error)
    ...     return error / root * width, 1 / (root * root * root)
    >>> X = np.arange(100.0).reshape(-1, 1)
    >>> model = qgbdt.QGBDTRegressor(objective=pseudo_huber.with_parameters(width=9.0))
    >>> model.fit(X, X[:, 0]).booster_.custom.parameters
    'width=9.0'
    """
    if link not in get_args(Link):
        raise ParameterError(f"link must be one of {', '.join(get_args(Link))}. Got {link!r}.")
    if function is None:
        return lambda function: CompiledObjective(function, link)
    return CompiledObjective(function, link)


@overload
def metric(function: Callable[..., Any], /) -> CompiledMetric: ...
@overload
def metric(*, is_higher_better: bool) -> Callable[[Callable[..., Any]], CompiledMetric]: ...
def metric(
    function: Callable[..., Any] | None = None, /, *, is_higher_better: bool = False
) -> CompiledMetric | Callable[[Callable[..., Any]], CompiledMetric]:
    """Make a metric, the weighted mean over rows, that is compiled of a function of one row.

    Parameters
    ----------
    function : callable
        ``f(prediction, target)`` that returns the row's loss. Further parameters have defaults,
        which are numbers; ``with_parameters`` changes them.
    is_higher_better : bool, default=False
        Whether it is rather a gain than a loss.

    Returns
    -------
    CompiledMetric
        For the argument ``eval_metric`` of ``fit``; several workers can use it, too.
    """
    if function is None:
        return lambda function: CompiledMetric(function, is_higher_better)
    return CompiledMetric(function, is_higher_better)
