"""The parameter table and what is made of it: constructors, messages, docstrings, native values.

Swept: every parameter of every estimator, and every kind of allowed value.
"""

import inspect
import math
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.errors import ParameterError, QGBDTError, UnknownParameterError
from qgbdt.params import (
    BOOL,
    NONE,
    Choice,
    FloatRange,
    IntRange,
    Parametrized,
    param,
    trainer_params,
)

ESTIMATORS = (QGBDTClassifier, QGBDTRegressor, QGBDTRanker)
EVERY_PARAMETER = [(cls, name) for cls in ESTIMATORS for name in cls._params]

NATIVE = {
    "n_estimators",
    "num_leaves",
    "max_depth",
    "grow_policy",
    "learning_rate",
    "min_child_samples",
    "min_child_weight",
    "min_split_gain",
    "reg_alpha",
    "reg_lambda",
    "path_smooth",
    "linear_tree",
    "linear_lambda",
    "grad_bits",
    "rounding",
    "renew_leaves",
    "cat_smooth",
    "cat_l2",
    "max_cat_threshold",
    "max_cat_to_onehot",
    "min_data_per_group",
    "alpha",
    "fair_c",
    "subsample",
    "subsample_freq",
    "data_sample_strategy",
    "top_rate",
    "other_rate",
    "colsample_bytree",
    "colsample_bynode",
    "extra_trees",
    "boosting_type",
    "drop_rate",
    "max_drop",
    "skip_drop",
    "uniform_drop",
    "xgboost_dart_mode",
    "tweedie_variance_power",
    "aft_loss_distribution",
    "aft_loss_distribution_scale",
    "lambdarank_truncation_level",
}

OUT_OF_RANGE = [
    ("n_estimators", 0, "an int in the range [1, 1000000]"),
    ("n_estimators", 10.0, "an int in the range [1, 1000000]"),
    ("n_estimators", True, "an int in the range [1, 1000000]"),
    ("num_leaves", 1, "an int in the range [2, 65536]"),
    ("num_leaves", 65537, "an int in the range [2, 65536]"),
    ("max_depth", -2, "an int in the range [-1, 2147483647]"),
    ("grow_policy", "leafwise", "a str among {'lossguide', 'depthwise'}"),
    ("learning_rate", 0, "a float in the range (0.0, 1000.0]"),
    ("learning_rate", math.nan, "a float in the range (0.0, 1000.0]"),
    ("learning_rate", "0.1", "a float in the range (0.0, 1000.0]"),
    ("max_bin", 256, "an int in the range [2, 255]"),
    ("min_child_samples", -1, "an int in the range [0, 2147483647]"),
    ("min_child_weight", -1e-9, "a float in the range [0.0, inf)"),
    ("min_split_gain", math.inf, "a float in the range [0.0, inf)"),
    ("reg_alpha", -1, "a float in the range [0.0, inf)"),
    ("path_smooth", -1.0, "a float in the range [0.0, inf)"),
    ("linear_tree", 1, "a bool"),
    ("linear_lambda", -1.0, "a float in the range [0.0, inf)"),
    ("reg_lambda", None, "a float in the range [0.0, inf)"),
    ("grad_bits", 1, "an int in the range [2, 8], 16 or 'auto'"),
    ("grad_bits", 9, "an int in the range [2, 8], 16 or 'auto'"),
    ("rounding", "up", "a str among {'stochastic', 'nearest'}"),
    ("renew_leaves", 1, "a bool"),
    *(
        (
            "categorical_features",
            value,
            "'from_dtype', a list of names, of column numbers or of bools or None",
        )
        for value in ("auto", 3, [1.5], [["a"]], [0, "a"], [None])
    ),
    ("unseen_category", "other", "a str among {'missing', 'error'}"),
    ("zero_as_missing", 1, "a bool"),
    ("zero_as_missing", None, "a bool"),
    ("cat_smooth", -1, "a float in the range [0.0, inf)"),
    ("cat_l2", -1, "a float in the range [0.0, inf)"),
    ("max_cat_threshold", 0, "an int in the range [1, 2147483647]"),
    ("max_cat_to_onehot", -1, "an int in the range [0, 2147483647]"),
    ("min_data_per_group", -1, "an int in the range [0, 2147483647]"),
    ("subsample", 0, "a float in the range (0.0, 1.0]"),
    ("subsample", 1.1, "a float in the range (0.0, 1.0]"),
    ("subsample_freq", -1, "an int in the range [0, 2147483647]"),
    ("data_sample_strategy", "mvs", "a str among {'bagging', 'goss'}"),
    ("top_rate", 1.0, "a float in the range [0.0, 1.0)"),
    ("other_rate", 0.0, "a float in the range (0.0, 1.0]"),
    ("colsample_bytree", 0, "a float in the range (0.0, 1.0]"),
    ("colsample_bynode", 1.5, "a float in the range (0.0, 1.0]"),
    ("extra_trees", 1, "a bool"),
    ("warm_start", 1, "a bool"),
    ("boosting_type", "goss", "a str among {'gbdt', 'dart', 'rf'}"),
    ("drop_rate", 1.1, "a float in the range [0.0, 1.0]"),
    ("max_drop", -2, "an int in the range [-1, 2147483647]"),
    ("skip_drop", -0.1, "a float in the range [0.0, 1.0]"),
    ("uniform_drop", 1, "a bool"),
    ("xgboost_dart_mode", 1, "a bool"),
    *(
        (
            "monotone_constraints",
            value,
            "a list of -1, 0 or 1 for each feature, a dict of -1, 0 or 1 by the names of features "
            "or None",
        )
        for value in ([2], "increasing", 1, [[1]], {"Column_0": "up"})
    ),
    *(
        (
            "interaction_constraints",
            value,
            "a list of lists of features, by index or name, a str among {'pairwise', "
            "'no_interactions'} or None",
        )
        for value in ("triples", [0, 1], ["ab"], [[0.5]], 3, {"a": ["b"]})
    ),
    ("forced_splits", [0, 1.0], "a dict or None"),
    ("early_stopping_rounds", 0, "an int in the range [1, 2147483647] or None"),
    ("early_stopping_min_delta", -0.1, "a float in the range [0.0, inf)"),
    ("first_metric_only", 1, "a bool"),
    *(
        (
            "validation_fraction",
            value,
            "a float in the range (0.0, 1.0), an object with a split method or None",
        )
        for value in (0.0, 1.0, "split")
    ),
    ("verbose", -2, "an int in the range [-1, 2147483647]"),
    ("importance_type", "cover", "a str among {'split', 'gain'}"),
    ("device", "tpu", "a str among {'cpu', 'cuda'}"),
    (
        "random_state",
        -1,
        "an int in the range [0, 4294967295], a numpy RandomState or Generator or None",
    ),
    ("n_jobs", 0, "an int other than 0 or None"),
]

OUT_OF_RANGE_OF_ONE = [
    (
        QGBDTClassifier,
        "objective",
        "regression",
        "a str among {'binary', 'multiclass', 'multiclassova'}, another name of LightGBM's for one "
        "of these, a function or None",
    ),
    (QGBDTClassifier, "is_unbalance", 1, "a bool"),
    (QGBDTClassifier, "scale_pos_weight", 0.0, "a float in the range (0.0, inf)"),
    (QGBDTClassifier, "class_weight", "even", "a dict, 'balanced' or None"),
    (
        QGBDTRegressor,
        "objective",
        "binary",
        "a str among {'regression', 'l1', 'huber', 'fair', 'quantile', 'mape', 'cross_entropy', "
        "'poisson', 'gamma', 'tweedie', 'aft', 'cox'}, another name of LightGBM's for one of "
        "these, a function or None",
    ),
    (QGBDTRegressor, "alpha", 0.0, "a float in the range (0.0, inf)"),
    (QGBDTRegressor, "fair_c", math.inf, "a float in the range (0.0, inf)"),
    (QGBDTRegressor, "tweedie_variance_power", 1, "a float in the range (1.0, 2.0)"),
    (QGBDTRegressor, "tweedie_variance_power", 2.0, "a float in the range (1.0, 2.0)"),
    (
        QGBDTRegressor,
        "aft_loss_distribution",
        "gumbel",
        "a str among {'normal', 'logistic', 'extreme'}",
    ),
    (QGBDTRegressor, "aft_loss_distribution_scale", 0.0, "a float in the range (0.0, inf)"),
    (
        QGBDTRanker,
        "objective",
        "ndcg",
        "a str among {'lambdarank', 'rank_xendcg'}, another name of LightGBM's for one of these, a "
        "function or None",
    ),
    (QGBDTRanker, "lambdarank_truncation_level", 0, "an int in the range [1, 2147483647]"),
    *(
        (
            QGBDTRanker,
            "label_gain",
            value,
            "a non-empty list of non-negative, non-decreasing numbers up to 1e30 or None",
        )
        for value in ([], [2, 1], [-1, 1], [0, math.nan], [0, math.inf], [[0, 1]], "ab", 3)
    ),
]


def fit(estimator):
    X = np.arange(40.0).reshape(-1, 1)
    y = np.arange(40) % 2
    ranked = isinstance(estimator, QGBDTRanker)
    return estimator.fit(X, y, group=[40]) if ranked else estimator.fit(X, y)


# --- Every parameter


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_signature_is_the_table(cls):
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == list(cls._params)
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    assert {name: p.default for name, p in parameters.items()} == cls().get_params()


@pytest.mark.parametrize(("cls", "name"), EVERY_PARAMETER)
def test_default_is_allowed_and_documented(cls, name):
    entry = cls._params[name]
    assert entry.default in entry.allowed
    assert entry.doc.endswith(".")
    assert f"\n{name} : " in cls.__doc__
    assert f", default={entry.default!r}\n" in cls.__doc__


@pytest.mark.parametrize(("cls", "name"), EVERY_PARAMETER)
def test_values_are_stored_untouched(cls, name):
    marker = object()
    assert getattr(cls(**{name: marker}), name) is marker
    assert getattr(cls().set_params(**{name: marker}), name) is marker


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_docstring_has_no_placeholder_left(cls):
    texts = [cls.__doc__, *(getattr(cls, name).__doc__ or "" for name in dir(cls))]
    sections = ("{parameters}", "{attributes}", "{iterations}")
    assert not any(section in text for text in texts for section in sections)


# --- Out of range


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize(("name", "value", "allowed"), OUT_OF_RANGE)
def test_out_of_range(cls, name, value, allowed):
    with pytest.raises(ParameterError) as caught:
        fit(cls(**{name: value}))
    assert str(caught.value) == (
        f"The {name!r} parameter of {cls.__name__} must be {allowed}. Got {value!r} instead."
    )
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, QGBDTError)


@pytest.mark.parametrize(("cls", "name", "value", "allowed"), OUT_OF_RANGE_OF_ONE)
def test_out_of_range_of_one_estimator(cls, name, value, allowed):
    test_out_of_range(cls, name, value, allowed)


def test_every_parameter_has_an_out_of_range_case():
    tested = {name for name, *_ in OUT_OF_RANGE} | {name for _, name, *_ in OUT_OF_RANGE_OF_ONE}
    assert tested == {name for _, name in EVERY_PARAMETER}


@pytest.mark.parametrize(
    "params",
    [
        {"num_leaves": np.int64(4), "grad_bits": np.uint8(16), "n_estimators": np.int32(2)},
        {"learning_rate": 1, "reg_lambda": np.float32(0.5), "min_child_weight": np.float64(0)},
        {"renew_leaves": np.bool_(False), "random_state": np.uint32(7)},
        {"random_state": np.random.RandomState(0)},
        {"random_state": np.random.default_rng(0)},
        {"n_jobs": -1},
    ],
)
def test_numpy_scalars_are_allowed(params):
    fit(QGBDTRegressor(**{"n_estimators": 2, **params}))


# --- Unknown names


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("num_leafs", "num_leaves"),
        ("n_estimator", "n_estimators"),
        ("lambda", "reg_lambda"),
        ("min_child_sample", "min_child_samples"),
        ("learning_rat", "learning_rate"),
    ],
)
def test_misspelt_name(typo, meant):
    message = f"QGBDTClassifier has no parameter {typo!r}. Did you mean {meant!r}?"
    with pytest.raises(UnknownParameterError) as from_constructor:
        QGBDTClassifier(**{typo: 3})
    with pytest.raises(UnknownParameterError) as from_set_params:
        QGBDTClassifier().set_params(**{typo: 3})
    for caught in (from_constructor, from_set_params):
        assert str(caught.value) == message
        assert isinstance(caught.value, TypeError)  # as Python's own
        assert isinstance(caught.value, ValueError)  # as scikit-learn's


def test_strange_name_lists_the_known_ones():
    with pytest.raises(UnknownParameterError, match=r"no parameter 'xyz'. It has n_estimators,"):
        QGBDTRegressor(xyz=1)


def test_set_params_with_a_typo_sets_nothing():
    regressor = QGBDTRegressor()
    with pytest.raises(UnknownParameterError):
        regressor.set_params(num_leaves=7, num_leafs=8)
    assert regressor.num_leaves == 31


def test_positional_arguments_are_refused():
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        QGBDTRegressor(10)


# --- The machinery


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (IntRange(0, 0), [0, np.int8(0)], [1, -1, 0.0, False], "an int in the range [0, 0]"),
        (IntRange(1), [1, 10**30], [0, math.inf, "1"], "an int in the range [1, inf)"),
        (FloatRange(0), [0, 1.5, np.float32(2)], [-1, math.inf, math.nan, True, "0"], None),
        (FloatRange(0, 1, "()"), [0.5], [0, 1], "a float in the range (0, 1)"),
        (FloatRange(0, 1, "(]"), [1], [0, 1.1], "a float in the range (0, 1]"),
        (Choice(("a", "b")), ["a"], ["c", 1, None, ["a"]], "a str among {'a', 'b'}"),
        (BOOL | NONE, [True, np.bool_(False), None], [0, "True"], "a bool or None"),
        (BOOL | Choice(("a",)) | NONE, [True, "a", None], [4], "a bool, 'a' or None"),
    ],
)
def test_allowed_values(allowed, inside, outside, words):
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert words is None or str(allowed) == words


def test_subclass_adds_and_changes_parameters():
    class Mine(QGBDTRegressor):
        num_leaves: int = param(default=7, allowed=IntRange(2, 9), doc="Fewer.")
        extra: int = param(default=1, allowed=IntRange(1), doc="More.", native=False)

    mine = Mine(extra=2)
    assert (mine.num_leaves, mine.extra, mine.max_bin) == (7, 2, 255)
    assert clone(mine).get_params() == mine.get_params()
    with pytest.raises(ParameterError, match=r"of Mine must be an int in the range \[2, 9\]"):
        fit(Mine(num_leaves=10))


class OwnConstructor(QGBDTRegressor):
    """A user's subclass in scikit-learn's usual manner."""

    def __init__(self, *, num_leaves=4, scale=2.0):
        super().__init__(num_leaves=num_leaves, n_estimators=3)
        self.scale = scale


def test_subclass_with_its_own_constructor():
    estimator = fit(clone(OwnConstructor(scale=3.0)))
    assert estimator.get_params() == {"num_leaves": 4, "scale": 3.0}
    assert pickle.loads(pickle.dumps(estimator)).booster_ == estimator.booster_
    with pytest.raises(UnknownParameterError, match="Did you mean 'scale'"):
        estimator.set_params(scal=1)


def test_constructor_belongs_to_its_class():
    class Plain(Parametrized):
        size: int = param(default=1, allowed=IntRange(1), doc="Size.")

    assert Plain.__init__.__qualname__.endswith("Plain.__init__")
    assert not hasattr(Plain, "size")
    assert Plain(size=3).size == 3


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_trainer_params_are_complete_and_plain(cls):
    params = trainer_params(cls(num_leaves=np.int16(9), learning_rate=1, renew_leaves=np.True_))
    assert set(params) == NATIVE
    assert {type(value) for value in params.values()} <= {int, float, bool, str}
    assert (params["num_leaves"], params["learning_rate"], params["renew_leaves"]) == (9, 1.0, True)
