"""Bad input: every message, word for word or by its telling part.

scikit-learn's own checks are asserted too, where a user relies on them.
"""

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import DataConversionWarning, NotFittedError

import qgbdt
from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.errors import DataError, DeviceError, ModelFormatError, ParameterError, QGBDTError
from qgbdt.validation import MAX_MAGNITUDE

N = 60
X = np.arange(4.0 * N).reshape(N, 4)
BINARY = np.arange(N) % 2
REAL = np.sin(np.arange(N))
RELEVANCE = np.arange(N) % 5
INF = np.inf


def regressor(**params):
    return QGBDTRegressor(n_estimators=2, **params)


def classifier(**params):
    return QGBDTClassifier(n_estimators=2, **params)


def ranker(**params):
    return QGBDTRanker(n_estimators=2, **params)


def fit_ranker(y=RELEVANCE, **kwargs):
    return ranker().fit(X, y, **({"group": [N // 2, N // 2]} | kwargs))


def with_value(values, value):
    return np.concatenate([values[:-1], [value]]).astype(float)


def message_of(error, action, *args, **kwargs):
    with pytest.raises(error) as caught:
        action(*args, **kwargs)
    return str(caught.value)


# --- X


@pytest.mark.parametrize("estimator", [regressor(), classifier()])
def test_wrong_width(estimator):
    estimator.fit(X, BINARY)
    for wrong in (X[:, :3], np.hstack([X, X])):
        assert message_of(ValueError, estimator.predict, wrong) == (
            f"X has {wrong.shape[1]} features, but {type(estimator).__name__} is expecting 4 "
            "features as input."
        )


def test_wrong_width_for_booster():
    booster = regressor().fit(X, REAL).booster_
    assert message_of(DataError, booster.predict, X[:, :3]) == (
        "X has 3 features, but Booster is expecting 4 features as input."
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X[0], "Booster needs X of 2 dimensions, got 1."),
        (X + 1j, "Booster needs real data, X is complex."),
        (scipy.sparse.csr_array(X + 1j), "Booster needs real data, X is complex."),
    ],
)
def test_booster_refuses(bad, message):
    assert message_of(DataError, regressor().fit(X, REAL).booster_.predict, bad) == message


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (X[:0], ValueError, r"Found array with 0 sample\(s\) \(shape=\(0, 4\)\)"),
        (X[:, :0], ValueError, r"Found array with 0 feature\(s\) \(shape=\(60, 0\)\)"),
        (X[:, 0], ValueError, "Expected 2D array, got 1D array instead"),
        (X[:, :, None], ValueError, "Found array with dim 3"),
        (X + 1j, ValueError, "Complex data not supported"),
        (scipy.sparse.csr_array(X + 1j), ValueError, "Complex data not supported"),
        (np.full((N, 1), "a"), ValueError, "could not convert string to float"),
        (X[:-1], ValueError, "Found input variables with inconsistent numbers of samples"),
    ],
)
@pytest.mark.parametrize("estimator", [regressor(), classifier()])
def test_bad_X(estimator, bad, error, message):
    with pytest.raises(error, match=message):
        estimator.fit(bad, BINARY[: len(bad)] if bad.shape[0] == 0 else BINARY)


def test_column_names_must_match():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    fitted = regressor().fit(frame, REAL)
    with pytest.raises(ValueError, match="The feature names should match those that were passed"):
        fitted.predict(frame.rename(columns={"a": "z"}))


@pytest.mark.parametrize("estimator", [regressor(), classifier(), ranker()])
def test_unfitted(estimator):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        estimator.predict(X)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        _ = estimator.feature_importances_


@pytest.mark.parametrize(
    ("row_blocks", "message"),
    [
        ([(0, N - 1)], "row_blocks sums up to 59 rows, but X has 60 rows."),
        ([], "row_blocks sums up to 0 rows, but X has 60 rows."),
        ([(0, N, 1)], "pairs of integers, the number of each block and how many rows it has. Got"),
        ([(0.5, N)], "pairs of integers"),
        ([(0, N + 1), (1, -1)], "Got (1, -1)."),
        ([(3, N - 1), (3, 1)], "two blocks of rows have the same number"),
    ],
)
def test_row_blocks(row_blocks, message):
    for estimator in (regressor(), classifier()):
        assert message in message_of(ValueError, estimator.fit, X, BINARY, row_blocks=row_blocks)
    assert message in message_of(ValueError, fit_ranker, row_blocks=row_blocks)


# --- y


@pytest.mark.parametrize("estimator", [regressor(), classifier()])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "Input y contains NaN."),
        (INF, "Input y contains infinity or a value too large for dtype('float64')."),
    ],
)
def test_y_not_finite(estimator, value, message):
    assert message_of(ValueError, estimator.fit, X, with_value(BINARY, value)) == message


def test_ranker_y_not_finite():
    with pytest.raises(ValueError, match="Input y contains NaN"):
        fit_ranker(with_value(RELEVANCE, np.nan))


@pytest.mark.parametrize("estimator", [regressor(), classifier(), ranker()])
def test_no_y(estimator):
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        estimator.fit(X, None)


def test_two_columns_of_y():
    y = np.column_stack([BINARY, BINARY])
    with pytest.raises(ValueError, match=r"y should be a 1d array, got an array of shape"):
        ranker().fit(X, y, group=[len(X)])
    y = np.where(BINARY, np.nan, y.T).T
    for estimator in (regressor(), classifier()):
        with pytest.raises(ValueError, match="Input y contains NaN"):
            estimator.fit(X, y)
        with pytest.raises(DataError, match=f"y has 5 rows, but X has {len(X)}"):
            estimator.fit(X, np.zeros((5, 2)))
    with pytest.raises(DataError, match=r"each must be a label that a row has \(1\) or not \(0\)"):
        classifier().fit(X, np.column_stack([BINARY, BINARY + 1]))


def test_column_vector_warns():
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        regressor().fit(X, REAL[:, None])


@pytest.mark.parametrize("y", [np.full(N, "a"), np.full(N, "1"), np.full(N, b"x")])
def test_regression_y_not_numeric(y):
    assert message_of(DataError, regressor().fit, X, y) == (
        f"y must be numeric, got dtype {y.dtype}."
    )


@pytest.mark.parametrize(
    ("objective", "bad", "message"),
    [
        ("poisson", -1, "objective='poisson' needs y >= 0, got -1.0."),
        ("tweedie", -0.5, "objective='tweedie' needs y >= 0, got -0.5."),
        ("gamma", 0, "objective='gamma' needs y > 0, got 0.0."),
    ],
)
def test_y_out_of_the_objective_range(objective, bad, message):
    y = with_value(np.ones(N), bad)
    assert message_of(DataError, regressor(objective=objective).fit, X, y) == message


def test_zero_is_in_the_range_of_poisson_and_tweedie():
    for objective in ("poisson", "tweedie"):
        regressor(objective=objective).fit(X, BINARY)


@pytest.mark.parametrize(
    ("y", "weight", "largest"),
    [
        (-1e31, None, 1e31),
        (1e308, np.full(N, 1e-280), 1e308),
        (1e29, np.full(N, 100.0), 1e31),
        (1e300, np.full(N, 1e30), INF),
    ],
)
def test_huge_y(y, weight, largest):
    message = message_of(DataError, regressor().fit, X, with_value(REAL, y), sample_weight=weight)
    assert message == (
        f"y (times sample_weight) must not exceed {MAX_MAGNITUDE}, got {largest}. Scale it."
    )


def test_one_class():
    assert message_of(DataError, classifier().fit, X, np.ones(N)) == (
        "QGBDTClassifier needs at least two classes, got one class: 1.0."
    )


def test_continuous_classes():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        classifier().fit(X, REAL)


def test_unknown_labels_are_wrong_predictions():
    fitted = classifier().fit(X, np.array(["a", "b"])[BINARY])
    assert fitted.score(X, np.full(N, "c")) == 0


def test_binary_objective_with_three_classes():
    fit = classifier(objective="binary").fit
    assert message_of(DataError, fit, X, np.arange(N) % 3) == (
        "objective='binary' needs y of two classes, got 3. Use objective='multiclass' or None."
    )


def test_negative_class_weight():
    assert message_of(DataError, classifier(class_weight={0: -1.0, 1: 1.0}).fit, X, BINARY) == (
        "sample_weight times class_weight must not be negative, got -1.0."
    )


@pytest.mark.parametrize("bad", [-1, 0.5])
def test_relevance_not_a_label(bad):
    assert message_of(DataError, fit_ranker, with_value(RELEVANCE, bad)) == (
        "QGBDTRanker needs relevance labels 0, 1, 2, ... as y."
    )


def test_relevance_without_gain():
    assert message_of(DataError, fit_ranker, with_value(RELEVANCE, 31)) == (
        "y has the label 31, but label_gain only has gains of the labels 0 to 30."
    )
    fit = ranker(label_gain=[0, 1, 3]).fit
    assert message_of(DataError, fit, X, RELEVANCE, group=[N]) == (
        "y has the label 4, but label_gain only has gains of the labels 0 to 2."
    )


# --- Weights


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (with_value(np.ones(N), -0.5), "sample_weight must not be negative, got -0.5."),
        (
            np.zeros(N),
            "sample_weight is zero on all rows: at least one weight must be positive.",
        ),
        (with_value(np.ones(N), np.nan), "sample_weight contains NaN or infinity."),
        (with_value(np.ones(N), INF), "sample_weight contains NaN or infinity."),
        (np.ones(N - 1), "sample_weight has 59 values, but X has 60 rows."),
        (np.ones((N, 2)), "sample_weight must be one-dimensional, got shape (60, 2)."),
        (2.0, "sample_weight must be one-dimensional, got shape ()."),
        (np.full(N, "1"), "sample_weight must be numeric, got dtype <U1."),
        (with_value(np.ones(N), 2e30), "sample_weight must not exceed 1e+30, got 2e+30."),
    ],
)
def test_bad_weights(weight, message):
    for estimator in (regressor(), classifier(), classifier(class_weight="balanced")):
        assert message_of(DataError, estimator.fit, X, BINARY, sample_weight=weight) == message
    assert message_of(DataError, fit_ranker, sample_weight=weight) == message


def test_weights_of_objects():
    weight = np.array([None] * N)
    weight[0] = "a"
    message = message_of(DataError, regressor().fit, X, REAL, sample_weight=weight)
    assert message.startswith("sample_weight must be numeric: ")


# --- Query groups


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"group": [30, 29]}, "group sums up to 59 rows, but X has 60 rows."),
        ({"group": [60, 60]}, "group sums up to 120 rows, but X has 60 rows."),
        *(
            (
                {"group": group},
                "group must hold positive integers, the number of rows of each query.",
            )
            for group in ([60, 0], [61, -1], [30.5, 29.5], [np.nan, 60])
        ),
        ({"group": []}, "group sums up to 0 rows, but X has 60 rows."),
        ({"group": [[60]]}, "group must be one-dimensional, got shape (1, 1)."),
        (
            {"group": None, "qid": np.zeros(59)},
            "qid must have one id per row of X, 60, got shape (59,).",
        ),
        (
            {"group": None, "qid": np.repeat([7, 8, 7], 20)},
            "The rows of each query must follow one another, but the rows of qid 7 do not. Sort "
            "the rows by qid.",
        ),
        (
            {"group": None},
            "QGBDTRanker.fit needs either group (the number of rows of each query) or qid (the "
            "query of each row).",
        ),
        (
            {"group": [60], "qid": np.zeros(60)},
            "QGBDTRanker.fit needs either group (the number of rows of each query) or qid (the "
            "query of each row).",
        ),
    ],
)
def test_bad_groups(groups, message):
    assert message_of(DataError, fit_ranker, **groups) == message


# --- Prediction ranges, devices, attributes


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"start_iteration": -1},
            "The 'start_iteration' parameter of predict must be an int in the range [0, 2]. Got "
            "-1 instead.",
        ),
        (
            {"start_iteration": 3},
            "The 'start_iteration' parameter of predict must be an int in the range [0, 2]. Got 3 "
            "instead.",
        ),
        *(
            (
                {"num_iteration": value},
                "The 'num_iteration' parameter of predict must be an int in the range [1, inf) or "
                f"None. Got {value!r} instead.",
            )
            for value in (0, -1, 1.0)
        ),
    ],
)
def test_bad_iteration_range(kwargs, message):
    fitted = classifier().fit(X, BINARY)
    for method in (fitted.predict, fitted.predict_proba, fitted.decision_function):
        assert message_of(ParameterError, method, X, **kwargs) == message
    assert message_of(ParameterError, fitted.booster_.predict, X, **kwargs) == message


def test_zero_threads_at_predict():
    fitted = regressor().fit(X, REAL).set_params(n_jobs=0)
    assert message_of(ParameterError, fitted.predict, X) == (
        "The 'n_jobs' parameter of predict must be an int other than 0 or None. Got 0 instead."
    )


def test_cuda_is_absent(monkeypatch):
    monkeypatch.setattr("qgbdt.devices.find_spec", lambda name: None)
    message = message_of(DeviceError, regressor(device="cuda").fit, X, REAL)
    assert message == (
        "device='cuda' needs qgbdt's CUDA module, which this build does not have. Build it from "
        "source where nvcc is (QGBDT_CUDA=1 pip install .), or use device='cpu', which trains the "
        "same model."
    )
    assert issubclass(DeviceError, RuntimeError)


def test_unknown_attribute_of_the_package():
    with pytest.raises(AttributeError, match="module 'qgbdt' has no attribute 'QGBDTTransformer'"):
        _ = qgbdt.QGBDTTransformer


def test_exception_tree():
    assert issubclass(DataError, ValueError)
    assert issubclass(DataError, QGBDTError)
    assert issubclass(ModelFormatError, ValueError)


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"not a model", b"\xff\xfe"])
def test_not_a_model(data, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(ModelFormatError):
        Booster.load_model(path)


def test_missing_model_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Booster.load_model(tmp_path / "nothing")


def test_bad_importance_type():
    booster = regressor().fit(X, REAL).booster_
    assert message_of(ParameterError, booster.feature_importance, "cover") == (
        "The 'importance_type' parameter of feature_importance must be a str among {'split', "
        "'gain'}. Got 'cover' instead."
    )


def test_bad_tree_index():
    booster = regressor().fit(X, REAL).booster_
    assert message_of(ParameterError, booster.tree, 2) == (
        "The 'index' parameter of tree must be an int in the range [0, 1]. Got 2 instead."
    )
