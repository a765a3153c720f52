"""Every parameter, declared once: name, type, default, allowed values, one line of documentation.

The bottom of this file is the table: a class per group of estimators, a `param` per line. From it
come the constructors (signature and static types), the validation and its messages, the parameter
section of the docstrings, and the values handed to the native trainer.
"""

import difflib
import inspect
import math
import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, dataclass_transform

import numpy as np

from qgbdt.errors import ParameterError, UnknownParameterError

# --- Sets of allowed values: `value in allowed` tests, `str(allowed)` is the wording -------------


class Allowed(ABC):
    """A set of values and the words for it; ``a | b`` is their union."""

    @abstractmethod
    def __contains__(self, value: Any) -> bool: ...

    def __or__(self, other: "Allowed") -> "Either":
        return Either((*getattr(self, "choices", (self,)), other))


@dataclass(frozen=True)
class Either(Allowed):
    """Any one of several sets."""

    choices: tuple[Allowed, ...]

    def __contains__(self, value: Any) -> bool:
        return any(value in choice for choice in self.choices)

    def __str__(self) -> str:
        *head, last = map(str, self.choices)
        return f"{', '.join(head)} or {last}"


@dataclass(frozen=True)
class Where(Allowed):
    """The values for which a test holds."""

    words: str
    test: Callable[[Any], bool]

    def __contains__(self, value: Any) -> bool:
        return self.test(value)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class IntRange(Allowed):
    """Integers from low to high, both included."""

    low: int
    high: float = math.inf

    def __contains__(self, value: Any) -> bool:
        return is_int(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        return (
            f"an int in the range [{self.low}, {self.high}{')' if self.high == math.inf else ']'}"
        )


@dataclass(frozen=True)
class FloatRange(Allowed):
    """Finite reals from low to high, the ends included as `bounds` draws them."""

    low: float
    high: float = math.inf
    bounds: Literal["[)", "()", "(]", "[]"] = "[)"

    def __contains__(self, value: Any) -> bool:
        if not is_real(value):
            return False
        above = self.low <= value if self.bounds[0] == "[" else self.low < value
        below = value <= self.high if self.bounds[1] == "]" else value < self.high
        return bool(above and below)

    def __str__(self) -> str:
        left, right = self.bounds
        return f"a float in the range {left}{self.low}, {self.high}{right}"


@dataclass(frozen=True)
class Choice(Allowed):
    """One of some strings."""

    names: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.names

    def __str__(self) -> str:
        if len(self.names) == 1:
            return repr(self.names[0])
        return f"a str among {{{', '.join(map(repr, self.names))}}}"


def is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def is_gain_table(value: Any) -> bool:
    """Whether value is a non-empty sequence of finite, non-negative, non-decreasing numbers."""
    try:
        gain = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    if gain.ndim != 1 or gain.size == 0:
        return False
    return bool(gain[0] >= 0 and gain[-1] <= 1e30 and (np.diff(gain) >= 0).all())


def is_list_of_features(value: Any) -> bool:
    """Whether value lists features: all by name, all by number, or a bool for each."""
    if isinstance(value, str) or not hasattr(value, "__len__") or isinstance(value, Mapping):
        return False
    listed = list(value)
    by_name = all(isinstance(some, str) for some in listed)
    by_bool = all(isinstance(some, (bool, np.bool_)) for some in listed)
    return by_name or by_bool or all(is_int(some) for some in listed)


def are_signs(value: Any) -> bool:
    """Whether value holds -1, 0 and 1 only."""
    try:
        signs = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return signs.ndim == 1 and bool(np.isin(signs, (-1, 0, 1)).all())


def are_sets_of_features(value: Any) -> bool:
    """Whether value is a list of lists of integers and strings."""

    def is_list(items: Any) -> bool:
        return isinstance(items, Collection) and not isinstance(items, (str, bytes, Mapping))

    return is_list(value) and all(
        is_list(some) and all(is_int(item) or isinstance(item, str) for item in some)
        for some in value
    )


NONE = Where("None", lambda value: value is None)
BOOL = Where("a bool", lambda value: isinstance(value, (bool, np.bool_)))
FUNCTION = Where("a function", callable)
DICT = Where("a dict", lambda value: isinstance(value, Mapping))
NON_ZERO_INT = Where("an int other than 0", lambda value: is_int(value) and value != 0)
RANDOM = Where(
    "a numpy RandomState or Generator",
    lambda value: isinstance(value, (np.random.RandomState, np.random.Generator)),
)
SPLITTER = Where(
    "an object with a split method",
    lambda value: hasattr(value, "split") and not isinstance(value, (str, bytes)),
)
FEATURES = Where("a list of names, of column numbers or of bools", is_list_of_features)
SIGNS = Where("a list of -1, 0 or 1 for each feature", are_signs)
SIGNS_BY_NAME = Where(
    "a dict of -1, 0 or 1 by the names of features",
    lambda value: isinstance(value, Mapping) and are_signs(list(value.values())),
)
FEATURE_SETS = Where("a list of lists of features, by index or name", are_sets_of_features)
GAINS = Where("a non-empty list of non-negative, non-decreasing numbers up to 1e30", is_gain_table)


# --- One parameter --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Param:
    """A parameter: `native` ones are handed to the trainer as they are."""

    default: Any
    allowed: Allowed
    doc: str
    native: bool

    def native_value(self, value: Any) -> Any:
        """The value as a plain Python number, bool or str."""
        if isinstance(value, str):
            return value
        kind = int if isinstance(self.default, str) else type(self.default)
        return kind(value)

    def docstring(self, name: str) -> str:
        """The numpydoc entry."""
        kind = re.sub(r"\ban? ", "", str(self.allowed))
        text = textwrap.fill(self.doc, width=92, initial_indent="    ", subsequent_indent="    ")
        return f"{name} : {kind}, default={self.default!r}\n{text}"


def check_value(name: str, owner: str, value: object, allowed: Allowed) -> None:
    """Raise ParameterError unless value is allowed."""
    if value not in allowed:
        raise ParameterError(
            f"The {name!r} parameter of {owner} must be {allowed}. Got {value!r} instead."
        )


def param(*, default: Any, allowed: Allowed, doc: str, native: bool = True) -> Any:
    """Declare a parameter in the body of a `Parametrized` class."""
    return Param(default, allowed, doc, native)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(param,))
class Parametrized:
    """Base of classes whose parameters are declared with `param` in the class body.

    A subclass gets a keyword-only constructor that stores the parameters untouched.
    """

    _params: ClassVar[dict[str, Param]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Param)}
        if own:
            for name in own:
                delattr(cls, name)
            cls._params = {**cls._params, **own}
            cls.__init__ = make_init(cls)  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def _check_params(self) -> None:
        """Raise ParameterError unless every parameter has an allowed value."""
        for name, param in self._params.items():
            check_value(name, type(self).__name__, getattr(self, name), param.allowed)


def parameters_section(cls: type[Parametrized]) -> str:
    """The entries of the Parameters section of the docstring."""
    return "\n".join(param.docstring(name) for name, param in cls._params.items())


def make_init(cls: type[Parametrized]) -> Callable[..., None]:
    """A constructor that takes the parameters of cls and stores them."""
    defaults = {name: param.default for name, param in cls._params.items()}

    def __init__(self: Any, **values: Any) -> None:
        check_names(type(self).__name__, values, defaults)
        vars(self).update({**defaults, **values})

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    keyword = inspect.Parameter.KEYWORD_ONLY
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        + [inspect.Parameter(name, keyword, default=value) for name, value in defaults.items()]
    )
    return __init__


def check_names(owner: str, names: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise UnknownParameterError for the first of names that is not known."""
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {nearest[0]!r}?" if nearest else f"It has {', '.join(known)}."
            raise UnknownParameterError(f"{owner} has no parameter {name!r}. {hint}")


# --- Names ----------------------------------------------------------------------------------------

TIME_OBJECTIVES = ("aft", "cox")  # whose y are times
REGRESSION_OBJECTIVES = (
    *("regression", "l1", "huber", "fair", "quantile", "mape", "cross_entropy"),
    *("poisson", "gamma", "tweedie"),
    *TIME_OBJECTIVES,
)

CLASSIFIER_OBJECTIVES = ("binary", "multiclass", "multiclassova")
RANKER_OBJECTIVES = ("lambdarank", "rank_xendcg")

# LightGBM's other names of objectives.
OBJECTIVE_ALIASES = {
    **dict.fromkeys(("regression_l2", "l2", "mean_squared_error", "mse"), "regression"),
    **dict.fromkeys(("l2_root", "root_mean_squared_error", "rmse"), "regression"),
    **dict.fromkeys(("regression_l1", "mean_absolute_error", "mae"), "l1"),
    "mean_absolute_percentage_error": "mape",
    "xentropy": "cross_entropy",
    "softmax": "multiclass",
    **dict.fromkeys(("multiclass_ova", "ova", "ovr"), "multiclassova"),
    **dict.fromkeys(("xendcg", "xe_ndcg", "xe_ndcg_mart", "xendcg_mart"), "rank_xendcg"),
}

# And of metrics.
METRIC_ALIASES = {
    **dict.fromkeys(("regression_l2", "mean_squared_error", "mse"), "l2"),
    **dict.fromkeys(("l2_root", "root_mean_squared_error"), "rmse"),
    **dict.fromkeys(("regression_l1", "mean_absolute_error", "mae"), "l1"),
    "mean_absolute_percentage_error": "mape",
    "xentropy": "cross_entropy",
    "mean_average_precision": "map",
}


@dataclass(frozen=True)
class AliasOf(Allowed):
    """LightGBM's other names of some objectives."""

    names: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and OBJECTIVE_ALIASES.get(value) in self.names

    def __str__(self) -> str:
        return "another name of LightGBM's for one of these"


# --- The table ------------------------------------------------------------------------------------

INT32_MAX = 2**31 - 1


class CommonParams(Parametrized):
    """The parameters of all estimators."""

    n_estimators: int = param(
        default=100,
        allowed=IntRange(1, 1_000_000),
        doc="Boosting iterations. Each adds one tree, or one per class with 'multiclass'.",
    )
    num_leaves: int = param(
        default=31,
        allowed=IntRange(2, 65536),
        doc="Most leaves of a tree. Trees grow leaf-wise: the leaf with the largest gain first.",
    )
    max_depth: int = param(
        default=-1,
        allowed=IntRange(-1, INT32_MAX),
        doc="Most splits between the root and a leaf; 0 and -1 mean no limit.",
    )
    grow_policy: Literal["lossguide", "depthwise"] = param(
        default="lossguide",
        allowed=Choice(("lossguide", "depthwise")),
        doc="Which node is split next: 'lossguide' the one of largest gain, as in LightGBM; "
        "'depthwise' one of least depth, and of these the one of largest gain. Trees end at "
        "num_leaves or max_depth.",
    )
    learning_rate: float = param(
        default=0.1,
        allowed=FloatRange(0.0, 1000.0, "(]"),
        doc="Factor on every leaf value.",
    )
    max_bin: int = param(
        default=255,
        allowed=IntRange(2, 255),
        doc="Most bins of a feature, not counting the one for missing values.",
        native=False,
    )
    linear_tree: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether leaves are linear in the numerical features of the splits above them, instead "
        "of constant. A row in which one of these is missing or infinite gets the constant. On one "
        "worker's CPU, of dense X.",
    )
    linear_lambda: float = param(
        default=0.0,
        allowed=FloatRange(0.0),
        doc="L2 regularization of the coefficients of linear leaves.",
    )
    min_child_samples: int = param(
        default=20,
        allowed=IntRange(0, INT32_MAX),
        doc="Fewest training rows in a leaf, kept exactly. Rows of zero weight count.",
    )
    min_child_weight: float = param(
        default=1e-3,
        allowed=FloatRange(0.0),
        doc="Smallest sum of hessians in a leaf.",
    )
    min_split_gain: float = param(
        default=0.0,
        allowed=FloatRange(0.0),
        doc="A split needs a gain larger than this.",
    )
    reg_alpha: float = param(
        default=0.0,
        allowed=FloatRange(0.0),
        doc="L1 regularization of leaf values.",
    )
    reg_lambda: float = param(
        default=0.0,
        allowed=FloatRange(0.0),
        doc="L2 regularization of leaf values.",
    )
    path_smooth: float = param(
        default=0.0,
        allowed=FloatRange(0.0),
        doc="A leaf's value is drawn towards that of the node above, as if so many rows had it.",
    )
    grad_bits: int | Literal["auto"] = param(
        default="auto",
        allowed=IntRange(2, 8)
        | Where("16", lambda value: is_int(value) and value == 16)
        | Choice(("auto",)),
        doc="Bits of a quantized gradient. 'auto' takes the fewest, tree by tree, whose rounding "
        "noise is at most a fifth of the gradients' mean square; see ``quantization_report_``. 16 "
        "stands in for float gradients.",
    )
    rounding: Literal["stochastic", "nearest"] = param(
        default="stochastic",
        allowed=Choice(("stochastic", "nearest")),
        doc="How gradients are rounded to integers. Stochastic rounding keeps sums unbiased.",
    )
    renew_leaves: bool = param(
        default=True,
        allowed=BOOL,
        doc="Whether leaf values are refitted from the unquantized gradients.",
    )
    categorical_features: Any = param(
        default="from_dtype",
        allowed=Choice(("from_dtype",)) | FEATURES | NONE,
        doc="The features whose values are categories: their names, their numbers, or a bool for "
        "each feature. 'from_dtype' takes the columns of a data frame that are categories or "
        "strings; None takes none.",
        native=False,
    )
    unseen_category: Literal["missing", "error"] = param(
        default="missing",
        allowed=Choice(("missing", "error")),
        doc="Whether a category that training has not seen is a missing value, or an error.",
        native=False,
    )
    zero_as_missing: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether zeros of numerical features are missing values, as is what a sparse matrix "
        "does not list: numbers of at most 1e-35 in magnitude, LightGBM's zeros. The model "
        "predicts so, too.",
        native=False,
    )
    cat_smooth: float = param(
        default=10.0,
        allowed=FloatRange(0.0),
        doc="Categories are sorted by gradient / (hessian + cat_smooth); those of fewer rows than "
        "this are not. As in all that categories count, so many rows are so many average hessians.",
    )
    cat_l2: float = param(
        default=10.0,
        allowed=FloatRange(0.0),
        doc="L2 regularization on top of reg_lambda where sorted categories are split.",
    )
    max_cat_threshold: int = param(
        default=32,
        allowed=IntRange(1, INT32_MAX),
        doc="Most categories on the smaller side of a split.",
    )
    max_cat_to_onehot: int = param(
        default=4,
        allowed=IntRange(0, INT32_MAX),
        doc="A feature of at most this many categories is split one category against the rest.",
    )
    min_data_per_group: int = param(
        default=100,
        allowed=IntRange(0, INT32_MAX),
        doc="Fewest rows by which two splits of sorted categories differ.",
    )
    subsample: float = param(
        default=1.0,
        allowed=FloatRange(0.0, 1.0, "(]"),
        doc="Share of the rows that a tree is grown on. A ranker draws whole queries.",
    )
    subsample_freq: int = param(
        default=0,
        allowed=IntRange(0, INT32_MAX),
        doc="Iterations that share one draw of subsample; 0 means one, too.",
    )
    data_sample_strategy: Literal["bagging", "goss"] = param(
        default="bagging",
        allowed=Choice(("bagging", "goss")),
        doc="How rows are sampled: 'bagging' as subsample says; 'goss' by gradient, the largest "
        "and a share of the others, which stands for all of them. 'goss' begins after "
        "1 / learning_rate iterations.",
    )
    top_rate: float = param(
        default=0.2,
        allowed=FloatRange(0.0, 1.0, "[)"),
        doc="Share of the rows, those of the largest gradients, that 'goss' keeps.",
    )
    other_rate: float = param(
        default=0.1,
        allowed=FloatRange(0.0, 1.0, "(]"),
        doc="Share of the rows that 'goss' draws of the others.",
    )
    colsample_bytree: float = param(
        default=1.0,
        allowed=FloatRange(0.0, 1.0, "(]"),
        doc="Share of the features that a tree may be split by, of those with more than one value.",
    )
    colsample_bynode: float = param(
        default=1.0,
        allowed=FloatRange(0.0, 1.0, "(]"),
        doc="Share of the tree's features that a node may be split by.",
    )
    extra_trees: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether a node looks at one cut of each numerical feature, which is drawn, and at the "
        "one between values and missing values. Categories are split as ever.",
    )
    boosting_type: Literal["gbdt", "dart", "rf"] = param(
        default="gbdt",
        allowed=Choice(("gbdt", "dart", "rf")),
        doc="'dart' grows trees as if some of the earlier ones, which are drawn, were not there, "
        "and then lets those and the new ones count for less. 'rf' is a random forest: each tree "
        "grows as if it were the first, on rows or features that are drawn, and all are averaged.",
    )
    drop_rate: float = param(
        default=0.1,
        allowed=FloatRange(0.0, 1.0, "[]"),
        doc="Share of the earlier trees that 'dart' drops.",
    )
    max_drop: int = param(
        default=50,
        allowed=IntRange(-1, INT32_MAX),
        doc="Most iterations whose trees 'dart' drops at a time; 0 and -1 mean no limit.",
    )
    skip_drop: float = param(
        default=0.5,
        allowed=FloatRange(0.0, 1.0, "[]"),
        doc="Share of the iterations in which 'dart' drops none.",
    )
    uniform_drop: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether 'dart' drops all earlier trees alike, not those rather that count for more.",
    )
    xgboost_dart_mode: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether trees count as in XGBoost's dart: a new one for learning_rate / (k + "
        "learning_rate), k dropped ones for k / (k + learning_rate) of what they did.",
    )
    monotone_constraints: Any = param(
        default=None,
        allowed=SIGNS | SIGNS_BY_NAME | NONE,
        doc="1 for a feature with which the prediction may only rise, -1 for one with which it may "
        "only fall, 0 for any other. Not for 'multiclass'.",
        native=False,
    )
    interaction_constraints: Any = param(
        default=None,
        allowed=FEATURE_SETS | Choice(("pairwise", "no_interactions")) | NONE,
        doc="Sets of features: those on a path from the root to a leaf are all in one of them. "
        "Features in no set are one more set. 'pairwise' is all pairs, 'no_interactions' each "
        "feature alone.",
        native=False,
    )
    forced_splits: dict[str, Any] | None = param(
        default=None,
        allowed=DICT | NONE,
        doc="The splits that each tree begins with: {'feature': index or name, 'threshold': x, "
        "'left': ..., 'right': ...}, where sides that are split on have the same form. One that "
        "is not allowed is left out, with what is below it.",
        native=False,
    )
    warm_start: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether fit keeps the trees that the estimator has and adds those that are missing "
        "to n_estimators.",
        native=False,
    )
    early_stopping_rounds: int | None = param(
        default=None,
        allowed=IntRange(1, INT32_MAX) | NONE,
        doc="Training stops when a metric of an evaluation set has not improved for so many "
        "iterations. The model then is the best one: later trees are dropped. None trains all.",
        native=False,
    )
    early_stopping_min_delta: float = param(
        default=0.0,
        allowed=FloatRange(0.0),
        doc="A metric improves only by more than this.",
        native=False,
    )
    first_metric_only: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether only the first metric stops training early.",
        native=False,
    )
    validation_fraction: Any = param(
        default=None,
        allowed=FloatRange(0.0, 1.0, "()") | SPLITTER | NONE,
        doc="Share of the rows that are held back from training and evaluated on: of the rows of "
        "each class, or of the queries; random_state chooses them. Or a splitter of scikit-learn, "
        "whose first split says what is trained and what is evaluated on.",
        native=False,
    )
    verbose: int = param(
        default=0,
        allowed=IntRange(-1, INT32_MAX),
        doc="Progress is logged each so many iterations, at level INFO of the logger 'qgbdt'; 0 "
        "and -1 mean never.",
        native=False,
    )
    importance_type: Literal["split", "gain"] = param(
        default="split",
        allowed=Choice(("split", "gain")),
        doc="What ``feature_importances_`` sums: the number of splits, or their gains.",
        native=False,
    )
    device: Literal["cpu", "cuda"] = param(
        default="cpu",
        allowed=Choice(("cpu", "cuda")),
        doc="Where to train. The model does not depend on it.",
        native=False,
    )
    random_state: int | np.random.RandomState | np.random.Generator | None = param(
        default=None,
        allowed=IntRange(0, 2**32 - 1) | RANDOM | NONE,
        doc="Seed of the stochastic rounding and of all samples. None is seed 0: training is "
        "always deterministic. A RandomState or Generator gives one number per fit.",
        native=False,
    )
    n_jobs: int | None = param(
        default=None,
        allowed=NON_ZERO_INT | NONE,
        doc="Threads. None: all CPUs that the process may use, or OMP_NUM_THREADS if that is "
        "less (joblib sets it in its workers). -1: all CPUs, -2: all but one, and so on. The "
        "model does not depend on it.",
        native=False,
    )

    def _check_params(self) -> None:
        super()._check_params()
        if self.data_sample_strategy != "goss":
            return
        if self.subsample != 1:
            raise ParameterError(
                "data_sample_strategy='goss' samples the rows itself: subsample must be 1.0. Got "
                f"{self.subsample!r} instead."
            )
        if self.top_rate + self.other_rate > 1:
            raise ParameterError(
                "top_rate and other_rate are shares of all rows and must not sum to more than 1. "
                f"Got {self.top_rate!r} and {self.other_rate!r} instead."
            )


class ClassifierParams(CommonParams):
    """The parameters of QGBDTClassifier."""

    objective: Any = param(
        default=None,
        allowed=Choice(CLASSIFIER_OBJECTIVES) | AliasOf(CLASSIFIER_OBJECTIVES) | FUNCTION | NONE,
        doc="The loss. None is 'binary' for two classes and 'multiclass' for more. 'multiclassova' "
        "takes each class against all others: their probabilities need not add up to 1. Or a "
        "function f(y, score[, weight]) that returns gradients and hessians.",
        native=False,
    )
    is_unbalance: bool = param(
        default=False,
        allowed=BOOL,
        doc="Whether the rarer one of two classes is weighted up to the weight of the other.",
        native=False,
    )
    scale_pos_weight: float = param(
        default=1.0,
        allowed=FloatRange(0.0, bounds="()"),
        doc="Factor on the weights of the second of two classes.",
        native=False,
    )
    class_weight: Mapping[Any, float] | Literal["balanced"] | None = param(
        default=None,
        allowed=DICT | Choice(("balanced",)) | NONE,
        doc="Weight per class label, multiplied into sample_weight. 'balanced' gives every class "
        "the same total weight.",
        native=False,
    )


class RegressorParams(CommonParams):
    """The parameters of QGBDTRegressor."""

    objective: Any = param(
        default=None,
        allowed=Choice(REGRESSION_OBJECTIVES) | AliasOf(REGRESSION_OBJECTIVES) | FUNCTION | NONE,
        doc="The loss. 'regression' (and None) is the squared error, 'l1' the absolute one, 'mape' "
        "the relative one; 'huber' and 'fair' lie between the first two; 'quantile' models the "
        "quantile alpha. 'cross_entropy' is of a y that is a probability. 'poisson' and 'tweedie' "
        "need y >= 0, 'gamma' needs y > 0, and these three model the logarithm of the mean. Of "
        "'aft' and 'cox' y > 0 is the time of an event, and y < 0 says that there was none until "
        "-y; 'aft' models the logarithm of the time, 'cox' that of the hazard. LightGBM's other "
        "names of these are taken, too. Or a function f(y, score[, weight]) that returns gradients "
        "and hessians.",
        native=False,
    )
    alpha: float = param(
        default=0.9,
        allowed=FloatRange(0.0, bounds="()"),
        doc="For 'quantile' which one, below 1; for 'huber' the error from which on the loss is "
        "linear.",
    )
    fair_c: float = param(
        default=1.0,
        allowed=FloatRange(0.0, bounds="()"),
        doc="For 'fair' the error about which the loss becomes linear.",
    )
    tweedie_variance_power: float = param(
        default=1.5,
        allowed=FloatRange(1.0, 2.0, "()"),
        doc="Power of the mean that the variance grows with, for 'tweedie' only.",
    )
    aft_loss_distribution: Literal["normal", "logistic", "extreme"] = param(
        default="normal",
        allowed=Choice(("normal", "logistic", "extreme")),
        doc="For 'aft' the distribution of the noise in the logarithm of the time.",
    )
    aft_loss_distribution_scale: float = param(
        default=1.0,
        allowed=FloatRange(0.0, bounds="()"),
        doc="For 'aft' what that noise is multiplied by.",
    )


class RankerParams(CommonParams):
    """The parameters of QGBDTRanker."""

    objective: Any = param(
        default=None,
        allowed=Choice(RANKER_OBJECTIVES) | AliasOf(RANKER_OBJECTIVES) | FUNCTION | NONE,
        doc="The loss. 'lambdarank' (and None) is LambdaMART's, for NDCG; 'rank_xendcg' is a cross "
        "entropy that bounds NDCG, and faster. Or a function f(y, score[, weight[, group]]) that "
        "returns gradients and hessians.",
        native=False,
    )
    lambdarank_truncation_level: int = param(
        default=30,
        allowed=IntRange(1, INT32_MAX),
        doc="Pairs count when one of the two is among this many best-scored of its query.",
    )
    label_gain: Sequence[float] | None = param(
        default=None,
        allowed=GAINS | NONE,
        doc="Gain of each label 0, 1, 2, ... None is 2**label - 1, for labels below 31.",
        native=False,
    )


def trainer_params(estimator: Parametrized) -> dict[str, Any]:
    """The native parameters, the table's defaults for those that the estimator lacks."""
    table = {**ClassifierParams._params, **RegressorParams._params, **RankerParams._params}
    return {
        name: param.native_value(getattr(estimator, name, param.default))
        for name, param in table.items()
        if param.native
    }
