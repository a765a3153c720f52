"""The model file (docs/model-format.md): every byte of it, and every way to be refused.

Swept: all objectives, missing values, infinite thresholds, odd names; each rejection of
csrc/model_io.cpp, behind a checksum that fits; saves that fail or are killed; a share of the
campaigns. Against: the same bytes, the same predictions, exact messages. Tolerance: none.
"""

import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from campaigns import fuzz_model, kill_save
from campaigns.fuzz_model import ODD_NAMES, body_of, sealed, trained_models
from scipy.sparse import csc_array

from qgbdt import Booster, QGBDTClassifier, QGBDTRegressor
from qgbdt.errors import ModelFormatError

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs/model-format.md").read_text()
EXAMPLE = re.search(r"```\n(qgbdt-model .*?)```", DOCUMENT, re.DOTALL)[1].encode()
CATEGORIES = re.search(r"```\n(qgbdt-model 2.*?)```", DOCUMENT, re.DOTALL)[1].encode()
LINEAR = re.search(r"```\n(qgbdt-model 3.*?)```", DOCUMENT, re.DOTALL)[1].encode()
ZEROS = (
    EXAMPLE.replace(b"model 1", b"model 3").replace(b"trees 1", b"zero missing\ntrees 1"),
    CATEGORIES.replace(b"model 2", b"model 3").replace(b"trees 1", b"zero missing\ntrees 1"),
)
VERSION_3 = (ROOT / "tests/data/model-version-3.txt").read_bytes()
VERSION_3_ZEROS = (ROOT / "tests/data/model-version-3-zeros.txt").read_bytes()
VERSION_2 = (ROOT / "tests/data/model-version-2.txt").read_bytes()
VERSION_1 = (ROOT / "tests/data/model-version-1.txt").read_bytes()

MODELS = list(trained_models())
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda b: b.objective)


def refusal(data: bytes) -> str:
    with pytest.raises(ModelFormatError) as caught:
        Booster.from_bytes(data)
    return str(caught.value)


# --- Round trips


@every_model
def test_round_trip(model):
    text = model.to_bytes()
    loaded = Booster.from_bytes(text)
    assert loaded.to_bytes() == text
    assert loaded.objective == model.objective
    for a, b in zip(loaded.trees(), model.trees()):
        for field in a.dtype.names:
            assert a[field].tobytes() == b[field].tobytes()
    X = np.random.default_rng(1).normal(size=(50, model.num_feature()))
    X[::3] = np.array([[np.nan], [np.inf], [-np.inf]] * 6)[:17]
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_the_models_have_what_is_hard():
    splits = b"".join(m.to_bytes() for m in MODELS)
    for word in (b" -inf missing-", b" inf missing-right", b"missing-left", b"outputs 3"):
        assert word in splits
    assert b"zero missing" in splits
    assert len({m.objective for m in MODELS}) == 8
    assert len(MODELS[-1].tree(0)) == 1


def test_odd_names():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, len(ODD_NAMES))), columns=ODD_NAMES)
    booster = QGBDTRegressor(n_estimators=2).fit(X, X.iloc[:, 0]).booster_
    assert booster.feature_name() == ODD_NAMES
    loaded = Booster.model_from_string(booster.model_to_string())
    assert loaded.feature_name() == ODD_NAMES
    assert loaded == booster


def test_every_code_point_in_a_name():
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    names = [everything[i : i + 1009] for i in range(0, len(everything), 1009)]
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(50, len(names))), columns=names)
    booster = QGBDTRegressor(n_estimators=1).fit(X, X.iloc[:, 0]).booster_
    assert Booster.from_bytes(booster.to_bytes()).feature_name() == names


def test_estimators_pickle_the_same_bytes():
    X = np.random.default_rng(0).normal(size=(90, 2))
    model = QGBDTClassifier(n_estimators=3).fit(X, np.array(["a", "b", "c"])[np.arange(90) % 3])
    text = model.booster_.to_bytes()
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(model, protocol)
        assert text in data
        assert pickle.loads(data).booster_.to_bytes() == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (100.0, "100"),
        (1e5, "1e+05"),
        (123456.0, "123456"),
        (2.0**63, "9223372036854775808"),
        (1e22, "1e+22"),
        (5e-324, "5e-324"),
        (-1.7976931348623157e308, "-1.7976931348623157e+308"),
    ],
)
def test_numbers_are_exact(number, text):
    tree = Booster.from_bytes(edited(EXAMPLE, b"leaf -0.125", f"leaf {text}".encode())).tree(0)
    assert tree["value"][1].tobytes() == np.float64(number).tobytes()


def test_random_floats_are_exact():
    bits = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    values = bits.view(np.float64)
    values = np.append(values[np.isfinite(values)], 2.0 ** np.arange(-1074, 1024))
    booster = Booster.from_bytes(chain_of(values))
    found = np.array([tree["value"][0] for tree in booster.trees()])
    assert found.tobytes() == values.tobytes()


def chain_of(values) -> bytes:
    """A model of one-leaf trees with these values, spelled as to_chars does."""
    head = b"qgbdt-model 1\nobjective regression\noutputs 1\nbase_score 0\nfeatures 1\n"
    trees = [f"tree {i} nodes 1\nleaf {to_chars(v)} 0 0\n" for i, v in enumerate(values)]
    return sealed(head + b'"x"\ntrees %d\n' % len(values) + "".join(trees).encode())


def to_chars(value) -> str:
    """The shorter of fixed and scientific, fixed if both are as long (C++17's to_chars)."""
    fixed = np.format_float_positional(value, trim="-")
    if float(value).is_integer():
        fixed = str(int(value)) if value or not np.signbit(value) else "-0"
    scientific = np.format_float_scientific(value, trim="-", exp_digits=2)
    return min(fixed, scientific, key=len)


# --- The document and its example


def test_example_of_the_document():
    model = Booster.from_bytes(EXAMPLE)
    assert model.to_bytes() == EXAMPLE
    predicted = model.predict([[0, 2.5], [0, 2.6], [0, np.nan]])
    np.testing.assert_array_equal(predicted, [0.375, 0.875, 0.375])


def test_files_of_version_1_are_read_for_ever():
    """This file stays as it is. Nothing writes it."""
    model = Booster.from_bytes(VERSION_1)
    assert model.to_bytes() == VERSION_1
    assert model.objective == "multiclass"
    assert model.feature_name() == ["", 'a "quoted" \\ name', "é\n"]
    X = [[0, 1, np.nan], [-np.inf, np.inf, 2], [np.nan, np.nan, np.inf]]
    expected = [[0.0, -0.5, -1e300], [0.75, 1.5, -1e300], [0.5, -0.5, -1e300]]
    np.testing.assert_array_equal(model.predict(X, raw_score=True), expected)


def test_example_of_categories():
    model = Booster.from_bytes(CATEGORIES)
    assert model.to_bytes() == CATEGORIES == VERSION_2
    codes = np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0], [0, np.nan, 0]])
    predicted = model._model.predict(codes, 0, 1, False, 1)[:, 0]
    np.testing.assert_array_equal(predicted, [0.375, 0.875, 0.375, 0.875])


def test_example_of_linear_leaves():
    model = Booster.from_bytes(LINEAR)
    assert model.to_bytes() == LINEAR == VERSION_3
    assert model.linear_leaves(0) == [(0.5, {0: 0.25, 1: -1.5}), (0.0, {})]
    X = [[2, 2], [2, 3], [np.nan, 2], [2, np.nan], [np.inf, -1], [1.7e308, -1.7e308]]
    expected = [-1.5, 0.875, 0.375, 0.375, 0.375, 0.375]
    np.testing.assert_array_equal(model.predict(X), expected)
    np.testing.assert_array_equal(model.predict(csc_array(X)), expected)  # no split is of age


def test_models_in_which_zero_is_missing():
    """With categories and without."""
    numbers, categories = (Booster.from_bytes(sealed(body_of(text))) for text in ZEROS)
    assert categories.to_bytes() == VERSION_3_ZEROS == sealed(body_of(ZEROS[1]))
    assert numbers.to_bytes() == sealed(body_of(ZEROS[0]))
    predicted = numbers.predict([[0, 0], [0, 2.6], [0, -0.0], [0, np.nan]])
    np.testing.assert_array_equal(predicted, [0.375, 0.875, 0.375, 0.375])
    codes = np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0], [0, np.nan, 0]])
    predicted = categories._model.predict(codes, 0, 1, False, 1)[:, 0]
    np.testing.assert_array_equal(predicted, [0.375, 0.875, 0.375, 0.875])


# --- Refusals


def edited(text: bytes, *changes: bytes) -> bytes:
    """The model with old, new, old, new, ... replaced once each, and a checksum that fits."""
    body = body_of(text)
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert body.count(old) == 1, old
        body = body.replace(old, new)
    return sealed(body)


BEFORE_THE_CHECKSUM = {
    b"": "not a qgbdt model: it must begin with 'qgbdt-model '",
    b"\x7fELF\0\xff": "not a qgbdt model: it must begin with 'qgbdt-model '",
    b"qgbdt-model": "not a qgbdt model: it must begin with 'qgbdt-model '",
    b"qgbdt-model 4\n": "a qgbdt model of version '4', but this qgbdt reads versions 1 to 3",
    b"qgbdt-model 1\r\n": "a qgbdt model of version '1?', but this qgbdt reads versions 1 to 3",
    b"qgbdt-model \xff\n": "a qgbdt model of version '?', but this qgbdt reads versions 1 to 3",
    b"qgbdt-model 3\n": "the model text ends early",
    b"qgbdt-model 1\n": "the model text ends early",
    EXAMPLE[:-1]: "the model text is damaged: its checksum does not match",
    EXAMPLE + b"\n": "the model text is damaged: its checksum does not match",
    EXAMPLE.replace(b"0.375", b"0.376"): "the model text is damaged: its checksum does not match",
    EXAMPLE.upper(): "not a qgbdt model: it must begin with 'qgbdt-model '",
}


@pytest.mark.parametrize("data", BEFORE_THE_CHECKSUM, ids=lambda data: repr(data[-12:]))
def test_refused_by_its_first_line_or_checksum(data):
    assert refusal(data) == BEFORE_THE_CHECKSUM[data]


# (old, new, ..., message, line)
REFUSED = [
    (b"15 15\n", b"15 15", "the text ends early", 11),
    (b"leaf 0.375 15 15\n", b"", "the text ends early", 11),
    (b"outputs", b"output", "expected 'outputs'", 3),
    (b"objective", b"goal", "expected 'objective'", 2),
    (b"base_score", b"base", "expected 'base_score'", 4),
    (b"features", b"feature", "expected 'features'", 5),
    (b"trees", b"Trees", "expected 'trees'", 8),
    (b"\ntree ", b"\nTree ", "expected 'tree'", 9),
    (b"nodes", b"node", "expected 'nodes'", 9),
    (b"regression", b"l2", "unknown objective", 2),
    (b"regression", b'custom "f" log "" ""', "unknown link", 2),
    (b"regression", b'custom "f" identity ""', "a word is missing", 2),
    (b"regression\noutputs 1", b"lambdarank\noutputs 3", "the objective does not have", 3),
    (b"regression", b"multiclass", "the objective does not have that many outputs", 3),
    (b"outputs 1", b"outputs 0", "'0' is out of range", 3),
    (b"outputs 1", b"outputs 9999", "'9999' is out of range", 3),
    (b"base_score 0.5", b"base_score inf", "'inf' is out of range", 4),
    (b"base_score 0.5", b"base_score nan", "'nan' is out of range", 4),
    (b"base_score 0.5", b"base_score 0.5 0.5", "the line goes on", 4),
    (b"base_score 0.5", b"base_score", "a word is missing", 4),
    (b"base_score 0.5", b"base_score ", "a word is missing", 4),
    (b"base_score 0.5", b"base_score  0.5", "a word is missing", 4),
    (b"features 2", b"features 0", "'0' is out of range", 5),
    (b"features 2", b"features 1073741824", "'1073741824' is out of range", 5),
    (b"features 2", b"features 3", "expected a quoted name", 8),
    (b'"age"', b"age", "expected a quoted name", 6),
    (b'"age"', b"", "expected a quoted name", 6),
    (b'"age"', b'"age', "a quoted name does not end", 6),
    (b'"age"', b'"age\\"', "a quoted name does not end", 6),
    (b'"age"', b'"age" ', "the line goes on", 6),
    (b'"age"', b'"a\tge"', "a control character in a name", 6),
    (b'"age"', b'"\\n"', "a bad escape in a name", 6),
    (b'"age"', b'"\\u0041"', "a bad escape in a name", 6),
    (b'"age"', b'"\\u001F"', "a bad escape in a name", 6),
    (b'"age"', b'"\\u00', "a bad escape in a name", 6),
    (b'"age"', b'"\\', "a bad escape in a name", 6),
    (b'"age"', b'"\xff"', "a name is not UTF-8", 6),
    (b'"age"', b'"\xc3"', "a name is not UTF-8", 6),
    (b'"age"', b'"\xc0\x80"', "a name is not UTF-8", 6),
    (b'"age"', b'"\xed\xa0\x80"', "a name is not UTF-8", 6),
    (b'"age"', b'"\xf4\x90\x80\x80"', "a name is not UTF-8", 6),
    (b"trees 1", b"trees -1", "'-1' is out of range", 8),
    (b"trees 1", b"trees 2", "the text ends early", 12),
    (b"trees 1", b"trees 9223372036854775807", "'9223372036854775807' is out of range", 8),
    (b"trees 1", b"trees 9223372036854775808", "'9223372036854775808' is not a number", 8),
    (b"trees 1", b"trees 0", "the text goes on after the last tree", 8),
    (b"15 15\n", b"15 15\nend\n", "the text goes on after the last tree", 12),
    (b"tree 0", b"tree 1", "'1' is out of range", 9),
    (b"nodes 3", b"nodes 0", "'0' is out of range", 9),
    (b"nodes 3", b"nodes 2147483648", "'2147483648' is not a number", 9),
    (b"nodes 3", b"nodes 2", "'2' is out of range", 10),
    (b"split", b"node", "expected 'split', 'categories' or 'leaf'", 10),
    (b"split 1 2.5", b"categories 1 5", "a feature is split as if it were of the other kind", 10),
    (b'"age"', b'"age" strings 0', "the line goes on", 6),
    (b"model 1", b"model 2", "version 2 is for models with categories", 7),
    (b"split 1", b"split 2", "'2' is out of range", 10),
    (b"split 1", b"split -1", "'-1' is out of range", 10),
    (b"split 1", b"split 4294967295", "'4294967295' is not a number", 10),
    (b"2.5", b"nan", "'nan' is out of range", 10),
    (b"2.5", b"-nan", "'-nan' is out of range", 10),
    (b"2.5", b"infinity", "'infinity' must be written 'inf'", 10),
    (b"missing-left", b"left", "expected 'missing-left' or 'missing-right'", 10),
    (b"left 1 2", b"left 0 2", "'0' is out of range", 10),
    (b"left 1 2", b"left 1 3", "'3' is out of range", 10),
    (b"left 1 2", b"left 1 1", "a node has two parents", 10),
    (b"split 1 2.5 missing-left 1 2 10.25", b"leaf 0", "a node has no parent", 11),
    (b"10.25", b"-10.25", "'-10.25' is out of range", 10),
    (b"10.25", b"inf", "'inf' is out of range", 10),
    (b"leaf -0.125", b"leaf inf", "'inf' is out of range", 11),
    (b"leaf -0.125", b"leaf -1e400", "'-1e400' is not a number", 11),
    (b"leaf -0.125", b"leaf x", "'x' is not a number", 11),
    (b"leaf -0.125", b"leaf " + b"\xff" * 41, f"'{'?' * 40}...' is not a number", 11),
    (b" 25 25", b" -25 25", "'-25' is out of range", 11),
    (b" 25 25", b" 25 -25", "'-25' is out of range", 11),
    (b" 25 25", b" 25.0 25", "'25.0' is not a number", 11),
    (b" 25 25", b" 025 25", "'025' must be written '25'", 11),
    (b" 25 25", b" +25 25", "'+25' is not a number", 11),
    (b" 25 25", b" 25 25.0", "'25.0' must be written '25'", 11),
    (b" 25 25", b" 25 2.5e1", "'2.5e1' must be written '25'", 11),
    (b" 25 25", b" 25 1E5", "'1E5' must be written '1e+05'", 11),
    (b" 25 25", b" 25 100000", "'100000' must be written '1e+05'", 11),
    (b" 25 25", b" 25 0x19", "'0x19' is not a number", 11),
    (b" 25 25", b" 25\t25", "'25?25' is not a number", 11),
    (b" 25 25", b" 25 25 ", "the line goes on", 11),
    (b" 25 25", b" 25 25\r", "'25?' is not a number", 11),
    (b" 25 25", b" 25 25\n", "a word is missing", 12),
    (b"-0.125", b"-.125", "'-.125' must be written '-0.125'", 11),
    (b"-0.125", b"-0.1250000000000000001", "'-0.1250000000000000001' must be written", 11),
]


REFUSED_CATEGORIES = [
    (b"model 2", b"model 1", "the line goes on", 7),
    (b"strings", b"words", "expected 'numbers' or 'strings'", 7),
    (b"strings", b"numbers", "'\"blue\"' is not a number", 8),
    (b"strings 3", b"strings", "a word is missing", 7),
    (b"strings 3", b"strings 256", "'256' is out of range", 7),
    (b"strings 3", b"strings 4", "the categories are not in order", 11),
    (b"strings 3", b"strings 2", "expected 'unseen_category'", 11),
    (b"strings 3", b"strings 3 ", "the line goes on", 7),
    (b'"red"', b'"reD\xff"', "a name is not UTF-8", 10),
    (b'"red"', b'"green"', "the categories are not in order", 10),
    (b'"red"', b'"Red"', "the categories are not in order", 10),
    (b"7.5", b"-1", "the categories are not in order", 13),
    (b"7.5", b"nan", "'nan' is out of range", 13),
    (b"7.5", b"inf", "'inf' is out of range", 13),
    (b"unseen_category missing\n", b"", "expected 'unseen_category'", 14),
    (b"unseen_category missing", b"unseen_category", "a word is missing", 14),
    (b"y missing", b"y ignored", "expected 'missing' or 'error'", 14),
    (b"y missing", b"y error ", "the line goes on", 14),
    (b"1 5 m", b"1 8 m", "'8' is not a set of the categories", 17),
    (b"1 5 m", b"1 50 m", "'50' is not a set of the categories", 17),
    (b"1 5 m", b"1 x m", "'x' is not a set of the categories", 17),
    (b"1 5 m", b"1 " + b"f" * 70 + b" m", f"'{'f' * 40}...' is not a set of the", 17),
    (b"categories 1", b"categories 0", "a feature is split as if it were of the other kind", 17),
    (b"categories 1 5", b"split 1 5", "a feature is split as if it were of the other kind", 17),
    (b"categories 1", b"categories 3", "'3' is out of range", 17),
]


LINE = b"linear -0.125 0.5 2 0 0.25 1 -1.5 25 25"
REFUSED_LINEAR = [
    (b"model 3", b"model 1", "expected 'split', 'categories' or 'leaf'", 11),
    (b"model 3", b"model 2", "version 2 is for models with categories", 7),
    (LINE, b"leaf -0.125 25 25", "version 3 is for models with linear leaves or missing zeros", 12),
    (b"trees 1", b"zero missing\ntrees 1", "leaves are linear in numbers, but zero is missing", 13),
    (b"linear", b"leaf", "'0.5' is not a number", 11),
    (b"linear", b"Linear", "expected 'split', 'categories' or 'leaf', or 'linear'", 11),
    (b"linear -0.125", b"linear inf", "'inf' is out of range", 11),
    (b" 0.5 2", b" inf 2", "'inf' is out of range", 11),
    (b" 0.5 2", b" nan 2", "'nan' is out of range", 11),
    (b" 0.5 2", b" 0.5 0", "'0' is out of range", 11),
    (b" 0.5 2", b" 0.5 3", "'3' is out of range", 11),
    (b" 0.5 2", b" 0.5 -1", "'-1' is out of range", 11),
    (b" 0.5 2", b" 0.5 1", "'-1.5' is out of range", 11),
    (b" 0.5 2", b" 0.5 1073741824", "'1073741824' is out of range", 11),
    (b"0 0.25 1", b"1 0.25 1", "'1' is out of range", 11),
    (b"0 0.25 1", b"1 0.25 0", "'0' is out of range", 11),
    (b"0 0.25 1", b"0 0.25 0", "'0' is out of range", 11),
    (b"0 0.25 1", b"0 0.25 2", "'2' is out of range", 11),
    (b"0 0.25 1", b"-1 0.25 1", "'-1' is out of range", 11),
    (b"-1.5", b"nan", "'nan' is out of range", 11),
    (b"-1.5", b"inf", "'inf' is out of range", 11),
    (b" 25 25", b" 25", "a word is missing", 11),
    (b" 25 25", b" 25 25 25", "the line goes on", 11),
    (b'"age"', b'"age" numbers 1\n7', "expected 'unseen_category'", 9),
    (b'"income"', b'"income"\nunseen_category missing', "expected 'trees'", 8),
    (
        *(b'"age"', b'"age" numbers 1\n7', b'"income"', b'"income"\nunseen_category error'),
        *("a leaf is linear in a categorical feature", 13),
    ),
]


REFUSED_ZEROS = [
    (b"model 3", b"model 2", "expected 'trees'", 15),
    (b"model 3", b"model 1", "the line goes on", 7),
    (b"zero missing\n", b"", "version 3 is for models with linear leaves or missing zeros", 19),
    (b"zero missing", b"zero", "a word is missing", 15),
    (b"zero missing", b"zero number", "expected 'missing'", 15),
    (b"zero missing", b"zero missing ", "the line goes on", 15),
    (b"zero missing", b"zero missing\nzero missing", "expected 'trees'", 16),
]


def id_of(case):
    return re.sub(r"[^ -~]", "?", case[1].decode(errors="replace"))[:40] or "deleted"


@pytest.mark.parametrize(
    ("example", "case"),
    [(EXAMPLE, case) for case in REFUSED]
    + [(CATEGORIES, case) for case in REFUSED_CATEGORIES]
    + [(LINEAR, case) for case in REFUSED_LINEAR]
    + [(ZEROS[1], case) for case in REFUSED_ZEROS],
    ids=lambda case: id_of(case) if isinstance(case, tuple) else "",
)
def test_refused(example, case):
    *changes, message, line = case
    found = refusal(edited(example, *changes))
    assert found.startswith(f"not a sound qgbdt model: {message}")
    assert found.endswith(f" (line {line})")


def test_incomplete_iterations():
    incomplete = edited(VERSION_1, b"trees 3", b"trees 2")
    assert "an iteration is not complete (line 9)" in refusal(incomplete)


def test_every_message_is_asserted():
    source = (ROOT / "csrc/model_io.cpp").read_text()
    calls = re.findall(r"(?:fail|ModelFormatError)\((.*?)\);", source, re.DOTALL)
    pieces = [p for call in calls for p in re.findall(r'"((?:[^"\\]|\\.)*)"', call)]
    asserted = "\n".join(
        [
            *BEFORE_THE_CHECKSUM.values(),
            *(case[-2] for case in REFUSED + REFUSED_CATEGORIES + REFUSED_LINEAR),
        ]
    )
    asserted += "an iteration is not complete; not a sound qgbdt model:  (line )"
    assert len(pieces) > 25
    assert [p for p in pieces if p not in asserted] == []


def test_memory_follows_the_text():
    """Texts of 4 MB with false sizes, or of the smallest things there are, below a memory limit."""
    subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY], check=True, cwd=ROOT / "tests", timeout=120
    )


SMALL_MEMORY = r"""
from campaigns.fuzz_model import body_of, corpus, limit_memory, sealed
from qgbdt import Booster
from qgbdt.errors import ModelFormatError
size = 4_000_000
head = b"qgbdt-model 1\nobjective regression\noutputs 1\nbase_score 0\n"
n_names, n_trees, n_nodes = size // 3, size // 30, size // 11
trees = b"".join(b"tree %d nodes 1\nleaf 0 0 0\n" % i for i in range(n_trees))
sound = [
    head + b"features %d\n" % n_names + b'""\n' * n_names + b"trees 0\n",
    head + b'features 1\n""\ntrees %d\n' % n_trees + trees,
    head.replace(b"l 1", b"l 3") + b'features 1\n""\ntrees %d\n' % (size // 40)
    + b"".join(b"tree %d nodes 1\nlinear 0 0 1 0 1 0 0\n" % i for i in range(size // 40)),
    head.replace(b"regression", b"multiclass").replace(b"s 1", b"s %d" % n_nodes).replace(
        b"score 0", b"score" + b" 0" * n_nodes) + b'features 1\n""\ntrees 0\n',
]
false = [
    head + b"features %d\n" % n_names + b"-" * size,
    head + b'features 1\n""\ntrees %d\n' % (size // 26) + b"-" * size,
    head + b'features 1\n""\ntrees 1\ntree 0 nodes %d\n' % n_nodes + b"-" * size,
    head + b'features 1\n""\ntrees 1\ntree 0 nodes %d\n' % n_nodes + b"leaf 0 0 0\n" * n_nodes,
    head.replace(b"l 1", b"l 3") + b'features 1\n""\ntrees 1\ntree 0 nodes %d\n' % n_nodes
    + b"leaf 0 0 0\n" * n_nodes,
    head.replace(b"l 1", b"l 3") + b"features %d\n" % n_trees + b'""\n' * n_trees
    + b"trees 1\ntree 0 nodes 1\nlinear 0 0 %d" % n_trees + b" 0 1" * n_trees + b" 0 0\n",
]
sound, false = [list(map(sealed, texts)) for texts in (sound, false)]
limit_memory(64)
for text in sound:
    assert Booster.from_bytes(text).to_bytes() == text
for text in false:
    try:
        Booster.from_bytes(text)
    except ModelFormatError:
        continue
    raise AssertionError(text[:100])
"""


# --- Files


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "must begin with"),
        (np.random.default_rng(0).bytes(10_000), "must begin with"),
        (edited(EXAMPLE, b"model 1", b"model 4"), "version '4'"),
        (EXAMPLE[:200], "checksum"),
    ],
    ids=["empty", "junk", "another version", "cut"],
)
def test_load_refuses(contents, message, tmp_path):
    (tmp_path / "model").write_bytes(contents)
    with pytest.raises(ModelFormatError, match=message):
        Booster.load_model(tmp_path / "model")


def test_load_what_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        Booster.load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        Booster.load_model(tmp_path / "absent")


def test_text_that_is_not_unicode():
    with pytest.raises(ModelFormatError, match="a name is not UTF-8"):
        Booster.model_from_string(
            edited(EXAMPLE, b"age", b"\xed\xa0\x80").decode(errors="surrogatepass")
        )


def test_a_model_without_trees():
    booster = Booster.from_bytes(
        edited(EXAMPLE, EXAMPLE[EXAMPLE.index(b"trees") : -18], b"trees 0\n")
    )
    np.testing.assert_array_equal(booster.predict(np.zeros((3, 2))), [0.5] * 3)
    for kind in ("split", "gain"):
        np.testing.assert_array_equal(booster.feature_importance(kind), [0, 0])


def test_save_names_the_path_in_errors(tmp_path):
    for path, error in [
        (tmp_path / "absent" / "model", FileNotFoundError),
        (tmp_path / "file" / "model", NotADirectoryError),
    ]:
        (tmp_path / "file").write_text("")
        with pytest.raises(error) as caught:
            MODELS[0].save_model(path)
        assert str(caught.value).endswith(f"{str(path)!r}")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_save_into_a_read_only_directory():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(PermissionError) as caught:
                MODELS[0].save_model(Path(folder, "model"))
        finally:
            os.seteuid(user)
        assert str(caught.value).endswith(f"{str(Path(folder, 'model').resolve())!r}")
        assert os.listdir(folder) == []
        os.chmod(folder, 0o755)


def test_save_under_the_longest_name(tmp_path):
    path = tmp_path / ("x" * 255)
    MODELS[0].save_model(path)
    assert Booster.load_model(path) == MODELS[0]


# --- Shares of the campaigns


@pytest.mark.timeout(300)
def test_damaged_models(tmp_path):
    report = fuzz_model.run(count=1000, seed=1, keep=tmp_path)
    assert report.failures == []
    assert report.old.total() == report.new.total() == 1000
    assert report.new[fuzz_model.LOADED] > 50
    assert len(report.new) > 20


def test_a_child_that_dies_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    report = fuzz_model.run(count=1, seed=0, keep=tmp_path)
    kept = [tmp_path / "0-0.model", tmp_path / "0-1.model"]
    died = "FAILURE: the process ended with 1"
    assert report.failures == [f"{path}: {died}" for path in kept]
    assert [path.read_bytes() for path in kept] == [fuzz_model.damaged(0, i) for i in (0, 1)]


@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_while_saving():
    command = [sys.executable, kill_save.__file__, "--kills", "10", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10 kills: 0 torn files, ")
