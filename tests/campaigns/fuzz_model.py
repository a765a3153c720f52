"""Damaged model files: each one must be refused with a ModelFormatError or load as a sound model.

Every mutation is tried twice: as it is, which the checksum refuses, and under a new checksum, so
that the checks behind it are reached. Sound means: written back as the same bytes, and able to
predict. All this happens in a child process with a bound on its memory and on the time for each
text; a crash, a hang or a wrong exception is a failure, and the text is kept. The same seed gives
the same texts.

    python tests/campaigns/fuzz_model.py --count 100000 --seed 0
"""

import argparse
import os
import random
import re
import resource
import signal
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.errors import ModelFormatError

SECONDS_PER_TEXT = 10
MEMORY_MIB = 128  # what the child may claim on top of what it starts with
MAX_FAILURES = 20

LOADED = "loaded"
FAILURE = "FAILURE: "

# --- The models that are damaged


def sealed(body: bytes) -> bytes:
    """The body with the checksum line that fits it."""
    return body + b"checksum %08x\n" % zlib.crc32(body)


def body_of(text: bytes) -> bytes:
    """The text without its last line, if that is a checksum."""
    return re.sub(rb"checksum [^\n]*\n?\Z", b"", text)


def squared_error(y, score):
    return score - y, np.ones_like(y)


def trained_models() -> Iterator[Booster]:
    """Small models of every objective, with missing values and infinite thresholds."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    X[::5, 1] = np.nan
    X[::4, 2] = -np.inf
    X[1::4, 2] = np.inf
    signal_ = X[:, 0] + np.isnan(X[:, 1]) - (X[:, 2] == -np.inf)
    labels = np.digitize(signal_, [0, 1])
    few = {"n_estimators": 4, "num_leaves": 5, "min_child_samples": 3}
    yield QGBDTRegressor(**few).fit(X, signal_).booster_
    for objective in ("poisson", "gamma", "tweedie"):
        yield QGBDTRegressor(objective=objective, **few).fit(X, np.exp(signal_)).booster_
    yield QGBDTClassifier(**few).fit(X, labels > 0).booster_
    yield QGBDTClassifier(**few).fit(X, labels).booster_
    yield QGBDTRanker(**few).fit(X, labels, group=[20] * 6).booster_
    yield QGBDTRegressor(objective=squared_error, **few).fit(X, signal_).booster_
    yield QGBDTRegressor(zero_as_missing=True, **few).fit(np.round(X), signal_).booster_
    yield QGBDTRegressor(n_estimators=1).fit(X[:, :1], np.ones(120)).booster_  # one leaf


def categorical_models() -> Iterator[Booster]:
    """Models with categories: strings and numbers, of either policy, and a feature without any."""
    rng = np.random.default_rng(1)
    names = np.array(["", "a b", 'a "quoted" \\ name', "\0\t", "é 日本 😀", "trees 1", "z"], object)
    X = np.empty((120, 4), object)
    X[:, 0], X[:, 1] = names[rng.integers(0, 7, 120)], rng.normal(size=120)
    X[:, 2], X[:, 3] = rng.integers(-20, 20, 120) / 4, None
    y = (X[:, 0] > "b") + X[:, 1].astype(float) + (X[:, 2] == 1)
    few = {"n_estimators": 3, "num_leaves": 6, "min_child_samples": 3, "min_data_per_group": 3}
    for unseen in ("missing", "error"):
        model = QGBDTRegressor(
            **few,
            cat_smooth=1.0,
            categorical_features=[0, 2, 3],
            unseen_category=unseen,
            zero_as_missing=unseen == "error",
        )
        yield model.fit(X, y).booster_


def linear_models() -> Iterator[Booster]:
    """Models with linear leaves, without and with categories."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(120, 3))
    X[::9, 1], X[:, 2] = np.nan, rng.integers(0, 3, 120)
    y = np.where(X[:, 0] > 0, X[:, 0], np.nan_to_num(X[:, 1])) + (X[:, 2] == 1)
    few = {"n_estimators": 3, "num_leaves": 4, "min_child_samples": 5, "linear_tree": True}
    yield QGBDTRegressor(**few).fit(X, y).booster_
    yield QGBDTClassifier(**few).fit(X, np.digitize(y, [0, 1])).booster_
    yield QGBDTRegressor(**few, categorical_features=[2], min_data_per_group=3).fit(X, y).booster_


ODD_NAMES = ["", "a b", 'a "quoted" \\ name', "\0\t\n\x1f\x7f", "é 日本 😀 \u2028", "trees 1"]


@cache
def corpus() -> list[bytes]:
    boosters = (*trained_models(), *categorical_models(), *linear_models())
    texts = [booster.to_bytes() for booster in boosters]
    for i, name in enumerate(ODD_NAMES):
        escaped = re.sub(r'["\\]', r"\\\g<0>", name)
        escaped = re.sub(r"[\0-\x1f]", lambda c: f"\\u{ord(c[0]):04x}", escaped)
        column = b'"Column_%d"' % (i % 4)
        texts.append(sealed(body_of(texts[i]).replace(column, f'"{escaped}"'.encode())))
    return texts


# --- The damage


def flip_bits(rng: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def truncate(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text))]


def delete_bytes(rng: random.Random, text: bytes) -> bytes:
    begin = rng.randrange(len(text))
    return text[:begin] + text[begin + rng.choice([1, 1, 2, 5, 50]) :]


def insert_bytes(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    junk = rng.choice([b" ", b"\n", b"\0", b"\r", b"\t", b'"', b"\\", rng.randbytes(8)])
    return text[:at] + junk + text[at:]


def splice(rng: random.Random, text: bytes) -> bytes:
    """The beginning of one model and the end of another, cut anywhere or between lines."""
    other = rng.choice(corpus())
    if rng.random() < 0.5:
        return text[: rng.randrange(len(text))] + other[rng.randrange(len(other)) :]
    lines, others = text.splitlines(True), other.splitlines(True)
    return b"".join(lines[: rng.randrange(len(lines))] + others[rng.randrange(len(others)) :])


def duplicate_lines(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(True)
    begin = rng.randrange(len(lines))
    copied = lines[begin : begin + rng.choice([1, 1, 2, 10])]
    at = rng.choice([begin, rng.randrange(len(lines) + 1)])
    return b"".join(lines[:at] + copied + lines[at:])


def delete_lines(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(True)
    begin = rng.randrange(len(lines))
    del lines[begin : begin + rng.choice([1, 1, 2, 10])]
    return b"".join(lines)


def swap_lines(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(True)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


# What replaced() replaces: group 1.
NUMBER = re.compile(rb" ([-+]?(?:\d[^ \n]*|inf))(?=[ \n])")
SIZE = re.compile(rb"(?:outputs|features|trees|nodes) (\d+)")
WORD = re.compile(rb"([^ \n]+)")
NAME = re.compile(rb'\n"([^\n]*)(?="\n)')

HARD_NUMBERS = re.findall(
    r"\S+",
    """0 -0 +0 1 -1 +1 01 1.0 .5 5. 1e0 1E5 1e+05 1e5 0x10 0x1p3 1_000 ١ 1, 1f NaN nan -nan nan(1)
    NAN inf -inf +inf INF infinity Infinity 1e400 -1e400 1e-400 1e308 1.7976931348623157e+308
    -1.7976931348623157e+308 1.7976931348623159e+308 5e-324 -5e-324 2.2250738585072014e-308 127 128
    255 256 32767 32768 65535 65536 2147483647 2147483648 -2147483648 4294967295 4294967296
    9223372036854775807 9223372036854775808 -9223372036854775808 18446744073709551615
    18446744073709551616 1152921504606846976 99999999999999999999999999999999 0.1
    0.30000000000000004 0.1000000000000000055511151231257827 123456789012345678 1e22 1e23
    9007199254740993""",
)


def replaced(rng: random.Random, text: bytes, pattern: re.Pattern[bytes], new) -> bytes:
    """The text with new(match) in the place of one match of the pattern, if there is any."""
    matches = list(pattern.finditer(text))
    if not matches:
        return text
    match = rng.choice(matches)
    return text[: match.start(1)] + new(match[1]) + text[match.end(1) :]


def number_near(rng: random.Random, old: bytes) -> bytes:
    try:
        return b"%d" % (int(old) + rng.choice([-2, -1, 1, 2]))
    except ValueError:
        return old[: rng.randrange(1, len(old) + 1)] + b"%d" % rng.randrange(10)


def edit_number(rng: random.Random, text: bytes) -> bytes:
    if rng.random() < 0.5:
        return replaced(rng, text, NUMBER, lambda old: number_near(rng, old))
    return replaced(rng, text, NUMBER, lambda _: rng.choice(HARD_NUMBERS).encode())


def false_size(rng: random.Random, text: bytes) -> bytes:
    def false(old: bytes) -> bytes:
        near = b"%d" % (int(old) + rng.choice([-2, -1, 1, 2, len(text) // 11, len(text)]))
        return rng.choice([near, near, rng.choice(HARD_NUMBERS).encode()])

    return replaced(rng, text, SIZE, false)


def edit_word(rng: random.Random, text: bytes) -> bytes:
    words = WORD.findall(rng.choice(corpus()))
    return replaced(rng, text, WORD, lambda _: rng.choice(words))


NAME_BITS = re.findall(
    rb"\S+",
    rb"""" \ \n \" \\ \u \u00 \u0000 \u001f \u001F \u0020 \u0041 \u00e9 \U00000000""",
)
NAME_BITS += [b"\0", b"\t", b"\xff", b"\x80", b"\xc3", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80"]
NAME_BITS += [b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"]
NAME_BITS += [name.encode() for name in ("é", "€", "😀", "\x7f", "\x85", "\u2028", "x" * 1000)]


def edit_name(rng: random.Random, text: bytes) -> bytes:
    bits = rng.choice(NAME_BITS)

    def edited(old: bytes) -> bytes:
        at = rng.randrange(len(old) + 1)
        return old[:at] + bits + old[at:]

    return replaced(rng, text, NAME, edited)


DAMAGES = [
    flip_bits,
    truncate,
    delete_bytes,
    insert_bytes,
    splice,
    duplicate_lines,
    delete_lines,
    swap_lines,
    edit_number,
    edit_number,
    edit_number,
    false_size,
    edit_word,
    edit_name,
]


def damaged(seed: int, attempt: int) -> bytes:
    """Text number `attempt`: even with the old checksum, odd the same text with a new one."""
    rng = random.Random(f"{seed} {attempt // 2}")
    text = rng.choice(corpus())
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        text = rng.choice(DAMAGES)(rng, text) or b"\n"
    return sealed(body_of(text)) if attempt % 2 else text


# --- The child: loads the texts and says a line about each


def outcome_of(text: bytes) -> str:
    try:
        booster = Booster.from_bytes(text)
    except ModelFormatError as error:
        message = str(error).rsplit(" (line ", 1)[0]
        return re.sub(r"'.*'( is |, | must be written)(?: '.*')?", r"_\1", message)
    if booster.to_bytes() != text:
        return FAILURE + "it is written back as other bytes"
    use(booster)
    return LOADED


def rows_for(booster: Booster) -> np.ndarray:
    """Nine rows of hard numbers, and of categories that the model has."""
    X = np.random.default_rng(0).normal(size=(9, booster.num_feature()))
    X[:4] = np.array([[np.nan], [np.inf], [-np.inf], [0.0]])
    if any(values is not None for values in booster.categories()):
        X = X.astype(object)
    for column, values in enumerate(booster.categories()):
        if values is not None:
            X[:, column] = [None, *values, *[None] * 8][:9]
    return X


def use(booster: Booster) -> None:
    """All that can be done with a model."""
    X = rows_for(booster)
    for raw_score in (False, True):
        predicted = booster.predict(X, raw_score=raw_score, n_jobs=1)
        assert len(predicted) == 9
        assert predicted.ndim == 1 + (len(booster._model.base_score) > 1)
    for kind in ("split", "gain"):
        assert booster.feature_importance(kind).shape == (booster.num_feature(),)
    if not booster._model.has_linear_leaves:
        assert booster.predict_contrib(X, n_jobs=1).shape[0] == 9
    assert booster.apply(X, n_jobs=1).shape == (9, booster.num_trees())
    if booster.objective != "custom" and not booster._categories:
        assert booster.to_lightgbm_string()
    assert len(booster.feature_name()) == booster.num_feature()
    assert len(booster.trees()) == booster.num_trees()
    for i, tree in enumerate(booster.trees()):
        assert len(booster.category_sets(i)) == tree["is_categorical"].sum()
        assert len(booster.linear_leaves(i)) in (0, (tree["feature"] < 0).sum())
    assert Booster.model_from_string(booster.model_to_string()) == booster
    assert repr(booster)


def limit_memory(mib: int) -> None:
    """How much more memory this process may claim; AddressSanitizer claims too much for that."""
    statm = Path("/proc/self/statm")
    if not statm.exists() or "libasan" in os.environ.get("LD_PRELOAD", ""):
        return
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def child(seed: int, first: int, end: int) -> None:
    np.seterr(all="ignore")
    corpus()
    limit_memory(MEMORY_MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for attempt in range(first, end):
        text = damaged(seed, attempt)
        signal.alarm(SECONDS_PER_TEXT)  # nothing handles it: the process ends
        try:
            outcome = outcome_of(text)
        except Exception as error:
            outcome = f"{FAILURE}{type(error).__name__}: {error}".replace("\n", " ")
        signal.alarm(0)
        print(outcome, flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(grown // (2**20 if sys.platform == "darwin" else 2**10), flush=True)


# --- The parent: counts, and keeps the texts that failed


@dataclass
class Report:
    old: Counter[str] = field(default_factory=Counter)  # outcomes under the old checksum
    new: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    grown_mib: int = 0  # the largest growth of the child's memory

    def __str__(self) -> str:
        lines = [f"{'as it is':>9} {'resealed':>9}"]
        for outcome, _ in (self.new + self.old).most_common():
            lines.append(f"{self.old[outcome]:9} {self.new[outcome]:9}  {outcome}")
        lines.append(
            f"{self.old.total()} mutations, {self.old.total() + self.new.total()} texts: "
            f"{self.old[LOADED] + self.new[LOADED]} loaded, {len(self.failures)} failures; "
            f"memory grew by {self.grown_mib} MiB"
        )
        return "\n".join(lines + self.failures)


def run(count: int, seed: int, keep: Path) -> Report:
    """Try `count` mutations; the texts that fail are kept in the folder."""
    report = Report()
    attempt, end = 0, 2 * count
    while attempt < end and len(report.failures) < MAX_FAILURES:
        command = [sys.executable, __file__, "--child", str(seed), str(attempt), str(end)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if attempt == end:
                    report.grown_mib = max(report.grown_mib, int(line))
                    break
                record(report, seed, attempt, line.rstrip("\n"), keep)
                attempt += 1
        if process.returncode != 0 or attempt < end:
            attempt = min(attempt, end - 1)
            died = f"{FAILURE}the process ended with {process.returncode}"
            record(report, seed, attempt, died, keep)
            attempt += 1
    return report


def record(report: Report, seed: int, attempt: int, outcome: str, keep: Path) -> None:
    (report.new if attempt % 2 else report.old)[outcome] += 1
    if outcome.startswith(FAILURE):
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{seed}-{attempt}.model"
        path.write_bytes(damaged(seed, attempt))
        report.failures.append(f"{path}: {outcome}")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return child(*map(int, sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz-model"), help="for failures")
    args = parser.parse_args()
    report = run(args.count, args.seed, args.keep)
    print(report)
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
