"""Sparse X gives the model of X.toarray(), byte for byte, and nothing dense is made of it."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from conftest import OBJECTIVES, feature_names, native_params, targets, train_native
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from workers import shards_in_order, train_together

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.matrices import native_matrix

FORMATS = ("csr", "csc", "coo", "lil", "dok")


def sparse_matrix(n=1500, seed=0, dtype=np.float64, groups=(0.004, 0.2, 0.9, 0.01)):
    """32 features of each density: listed, in sparse tiles, in dense ones, listed again.

    The rarer a feature, the more its values matter, so that trees split by some of each group.
    Some values are missing, some negative, and some zeros are listed.
    """
    rng = np.random.default_rng(seed)
    density = np.repeat(groups, 32)
    X = np.where(rng.random((n, len(density))) < density, 1.0, 0.0)
    X *= np.round(rng.normal(1, 2, X.shape), 1)
    signal = X @ (rng.normal(size=len(density)) / (density + 0.003)) + rng.normal(size=n)
    sparse = scipy.sparse.csr_array(X)
    sparse.data[rng.random(sparse.nnz) < 0.05] = np.nan
    sparse.data[rng.random(sparse.nnz) < 0.05] = 0
    return sparse.astype(dtype), signal


def both(X, y, params, **kwargs):
    """The bytes of the models of sparse and of dense X."""
    return [
        train_native(some, y, params, names=feature_names(X), **kwargs).to_bytes()
        for some in (native_matrix(X), X.toarray())
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bits", ["auto", 2, 5, 8, 16])
def test_equals_dense(bits, dtype, monkeypatch):
    X, signal = sparse_matrix(dtype=dtype)
    y = (signal > np.median(signal)).astype(float)
    params = native_params(
        objective="binary", grad_bits=bits, n_estimators=4, num_leaves=31, min_child_samples=3
    )
    models = set()
    for simd in _core.simd_levels():
        monkeypatch.setenv("QGBDT_SIMD", simd)
        for n_threads in (1, 3):
            models |= set(both(X, y, params, n_threads=n_threads))
    assert len(models) == 1
    model = _core.Model.from_bytes(models.pop())
    used = np.unique(np.concatenate([model.tree(i)["feature"] for i in range(model.n_trees)]))
    groups = set(used[used >= 0] // 32)
    assert groups > {1, 2}
    assert groups & {0, 3}  # trees split by features of each density


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_with_weights(objective):
    X, _ = sparse_matrix(groups=(0.01, 0.3))
    y, query_sizes = targets(X.toarray(), objective)
    weight = np.random.default_rng(1).random(len(y))
    params = native_params(objective=objective, n_estimators=2)
    sparse, dense = both(X, y, params, weight=weight, query_sizes=query_sizes, n_threads=2)
    assert sparse == dense


drawn = st.fixed_dictionaries(
    {
        "n": st.integers(1, 300),
        "groups": st.lists(st.sampled_from([0, 0.002, 0.01, 0.05, 0.3, 1]), min_size=1, max_size=3),
        "seed": st.integers(0, 99),
    }
)


@given(
    drawn,
    st.sampled_from(["auto", 2, 3, 8, 16]),
    st.integers(1, 30),
    st.integers(2, 40),
    st.integers(2, 255),
)
@example({"n": 300, "groups": [0.01], "seed": 0}, "auto", 1, 10, 255)
@example({"n": 300, "groups": [0.05, 0.01, 0.05], "seed": 0}, 3, 1, 40, 255)
@settings(max_examples=60, deadline=None)
def test_any_matrix(shape, bits, min_child_samples, num_leaves, max_bin):
    X, y = sparse_matrix(**shape)
    params = native_params(
        grad_bits=bits, min_child_samples=min_child_samples, num_leaves=num_leaves
    )
    sparse, dense = both(X, y, params, max_bin=max_bin)
    assert sparse == dense
    model = _core.Model.from_bytes(sparse)
    np.testing.assert_array_equal(
        model.predict(native_matrix(X), 0, 3, False, 2), model.predict(X.toarray(), 0, 3, False, 1)
    )


def test_bins_and_thresholds_from_a_sample():
    """With more than 200,000 rows some of them decide: the zeros among these are counted."""
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((230_000, 3), density=0.02, rng=rng, format="csc")
    X.data[:100] = -1
    sparse, dense = (_core.BinnedMatrix(some, 255, 2) for some in (native_matrix(X), X.toarray()))
    for feature in range(3):
        np.testing.assert_array_equal(sparse.bin_thresholds(feature), dense.bin_thresholds(feature))
    np.testing.assert_array_equal(sparse.bins(), dense.bins())
    np.testing.assert_array_equal(sparse.has_missing(), dense.has_missing())


@given(
    st.integers(1, 400),
    st.floats(0, 1),
    st.sampled_from([0, 0.1, 0.6]),
    st.sampled_from([3, 30, 10**6]),
    st.integers(2, 30),
    st.integers(0, 99),
)
@settings(max_examples=300, deadline=None)
def test_bins_of_any_column(n, density, missing_share, n_values, max_bin, seed):
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, 1)) < density, rng.integers(-n_values, n_values, (n, 1)), 0.0)
    X[rng.random(X.shape) < missing_share] = np.nan
    sparse = native_matrix(scipy.sparse.csc_array(X))
    bins = [_core.BinnedMatrix(some, max_bin, 1) for some in (sparse, X)]
    np.testing.assert_array_equal(*(some.bin_thresholds(0) for some in bins))
    np.testing.assert_array_equal(*(some.bins() for some in bins))


def test_workers():
    X, y = sparse_matrix(600)
    params = native_params(n_estimators=2)
    edges = [250, 250]  # the second one has no rows
    models = train_together(
        _core.thread_comms(3), shards_in_order(600, edges), X, y, params, n_threads=2
    )
    expected = train_native(X.toarray(), y, params).to_bytes()
    assert {model.to_bytes() for model in models} == {expected}


# --- Estimators


@pytest.mark.parametrize("form", FORMATS)
def test_estimator_takes_every_format(form):
    X, signal = sparse_matrix(400)
    y = (signal > 0).astype(int)
    expected = QGBDTClassifier(n_estimators=3).fit(X.toarray(), y)
    matrix = X.asformat(form)
    fitted = QGBDTClassifier(n_estimators=3).fit(matrix, y)
    assert fitted.booster_ == expected.booster_
    for rows in (matrix, matrix.tocsr()[:1]):
        np.testing.assert_array_equal(
            fitted.predict_proba(rows), expected.predict_proba(rows.toarray())
        )
        np.testing.assert_array_equal(
            fitted.booster_.predict(rows), expected.booster_.predict(rows.toarray())
        )


def test_what_was_given_is_left_as_it_is():
    """Unsorted rows, and duplicates, which are summed."""
    values, rows = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5, 1, 1, 30])
    X = scipy.sparse.csc_matrix((values, rows, [0, 3, 4]), shape=(40, 2))
    model = QGBDTRegressor(n_estimators=1, min_child_samples=1).fit(X, np.arange(40.0))
    np.testing.assert_array_equal(X.indices, rows)
    np.testing.assert_array_equal(X.data, values)
    assert (
        model.booster_
        == (
            QGBDTRegressor(n_estimators=1, min_child_samples=1).fit(X.toarray(), np.arange(40.0))
        ).booster_
    )


def test_evaluation_sets_and_early_stopping():
    X, signal = sparse_matrix(800)
    y = (signal > 0).astype(int)
    train, held = X[:600], X[600:]
    fits = [
        QGBDTClassifier(n_estimators=30, early_stopping_rounds=3).fit(
            a, y[:600], eval_set=[(b, y[600:])], eval_metric="auc"
        )
        for a in (train, train.toarray())
        for b in (held, held.toarray())
    ]
    assert len({fit.booster_.to_bytes() for fit in fits}) == 1
    assert all(fit.evals_result_ == fits[0].evals_result_ for fit in fits)
    assert fits[0].best_iteration_ < 30
    held_back = [
        QGBDTClassifier(n_estimators=9, early_stopping_rounds=3, validation_fraction=0.2).fit(a, y)
        for a in (X, X.toarray())
    ]
    assert held_back[0].booster_ == held_back[1].booster_


def test_continued_and_from_a_checkpoint(tmp_path):
    X, y = sparse_matrix(500)
    whole = QGBDTRegressor(n_estimators=6, random_state=0).fit(X, y).booster_
    half = QGBDTRegressor(n_estimators=3, random_state=0).fit(X, y, checkpoint_dir=tmp_path)
    resumed = QGBDTRegressor(n_estimators=6, random_state=0)
    assert resumed.fit(X, y, checkpoint_dir=tmp_path, resume=True).booster_ == whole
    assert QGBDTRegressor(n_estimators=3).fit(X, y, init_model=half).booster_ == (
        QGBDTRegressor(n_estimators=3).fit(X.toarray(), y, init_model=half).booster_
    )


@pytest.mark.parametrize(
    "options",
    [
        {"subsample": 0.6},
        {"data_sample_strategy": "goss", "learning_rate": 0.5},
        {"colsample_bytree": 0.4, "colsample_bynode": 0.5},
        {"monotone_constraints": [1, -1] * 64},
        {"interaction_constraints": [list(range(0, 128, 2)), list(range(1, 128, 2))]},
    ],
)
def test_sampled_and_constrained(options):
    X, y = sparse_matrix()
    fits = [
        QGBDTRegressor(n_estimators=4, min_child_samples=3, n_jobs=2, **options).fit(some, y)
        for some in (X, X.toarray())
    ]
    assert fits[0].booster_ == fits[1].booster_
    used = np.flatnonzero(fits[0].feature_importances_)
    assert set(used // 32) & {0, 3}  # some are listed


def test_ranker():
    X, _ = sparse_matrix(300)
    y, sizes = targets(X.toarray(), "lambdarank")
    assert QGBDTRanker(n_estimators=3).fit(X, y, group=sizes).booster_ == (
        QGBDTRanker(n_estimators=3).fit(X.toarray(), y, group=sizes).booster_
    )


def test_text_in_a_pipeline():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    texts = [
        " ".join(["good", "bad"][label] if rng.random() < 0.3 else f"w{word}" for word in words)
        for label, words in zip(y, rng.integers(0, 500, (300, 12)), strict=True)
    ]
    pipeline = make_pipeline(TfidfVectorizer(), QGBDTClassifier(n_estimators=10))
    assert cross_val_score(pipeline, texts, y, cv=3).mean() > 0.9


@pytest.mark.parametrize("zero_as_missing", [False, True])
def test_memory_follows_what_is_listed(zero_as_missing):
    """Dense, 20,000 x 50,000 would have 1 GB of bins alone; all memory may grow by half of that."""
    script = """
import resource, sys
import numpy as np, scipy.sparse
from qgbdt import QGBDTClassifier
X = scipy.sparse.random_array(
    (20_000, 50_000), density=1e-4, rng=np.random.default_rng(0), format="csr", dtype=np.float32
)
y = (X[:, :2000].sum(axis=1) > 0.5).astype(int)
QGBDTClassifier(n_estimators=1, n_jobs=2).fit(np.eye(100), np.arange(100) % 2)  # threads are there
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 500_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
few = {"n_estimators": 3, "min_child_samples": 1, "zero_as_missing": sys.argv[1] == "True"}
model = QGBDTClassifier(n_jobs=2, **few).fit(X, y, eval_set=[(X, y)])
assert model.predict(X).shape == (20_000,) and (model.feature_importances_ > 0).sum() > 1
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    command = [sys.executable, "-c", script, str(zero_as_missing)]
    subprocess.run(command, check=True, timeout=120)


# --- The native matrix


@pytest.mark.parametrize(
    ("values", "rows", "begin", "shape"),
    [
        ([1.0, 2.0], [0], [0, 1], (3, 1)),  # a value without a row
        ([1.0], [3], [0, 1], (3, 1)),  # a row beyond the end
        ([1.0], [-1], [0, 1], (3, 1)),
        ([1.0, 2.0], [1, 1], [0, 2], (3, 1)),  # twice the same
        ([1.0, 2.0], [1, 0], [0, 2], (3, 1)),
        ([1.0], [0], [0, 2], (3, 1)),  # more than there is
        ([1.0], [0], [0, 1], (3, 2)),  # too few columns
        ([1.0], [0], [0, 2, 1], (3, 2)),
        ([1.0], [0], [0, 1], (-3, 1)),
        ([1], [0], [0, 1], (3, 1)),  # not real
    ],
)
def test_native_matrix_is_sound(values, rows, begin, shape):
    with pytest.raises(ValueError, match=r"value|row|column|shape"):
        _core.SparseMatrix(np.array(values), np.int32(rows), np.int64(begin), shape)
