"""Damaged LightGBM texts: each is refused with a ModelFormatError or loads as a sound model.

Sound means: it predicts, explains itself, and is written as a text that loads as the same model.
Memory and the time for each text are bounded. The same seed gives the same texts.

    python tests/campaigns/fuzz_lightgbm.py --count 100000 --seed 0
"""

import argparse
import random
import re
import signal
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from campaigns.fuzz_model import (
    HARD_NUMBERS,
    MEMORY_MIB,
    SECONDS_PER_TEXT,
    categorical_models,
    delete_bytes,
    delete_lines,
    duplicate_lines,
    flip_bits,
    insert_bytes,
    limit_memory,
    linear_models,
    number_near,
    replaced,
    rows_for,
    swap_lines,
    trained_models,
    truncate,
)

from qgbdt import Booster
from qgbdt.errors import ModelFormatError

NUMBER = re.compile(rb"[= ]([-+]?\d[^ \n]*)(?=[ \n])")
SIZE = re.compile(rb"(?:num_class|per_iteration|feature_idx|num_leaves|num_cat|num_features)=(\d+)")
CHILD = re.compile(rb"(?:child|decision_type|split_feature|features)=(?:\S+ )*?(-?\d+)(?=[ \n])")


@cache
def corpus() -> list[bytes]:
    """Texts of every objective, of categories, of linear trees, and with zero missing in some."""
    texts = [
        booster.to_lightgbm_string().encode()
        for booster in (*trained_models(), *categorical_models(), *linear_models())
        if booster.objective != "custom"
    ]
    texts += [re.sub(rb"(decision_type=.*)\b8\b", rb"\g<1>4", text) for text in texts]
    texts.append(texts[0].replace(b"feature_names", b"average_output\nfeature_names"))
    return texts


def edit_number(rng: random.Random, text: bytes) -> bytes:
    pattern = rng.choice([NUMBER, SIZE, CHILD])
    if rng.random() < 0.5:
        return replaced(rng, text, pattern, lambda old: number_near(rng, old))
    return replaced(rng, text, pattern, lambda _: rng.choice(HARD_NUMBERS).encode())


DAMAGES = [flip_bits, truncate, delete_bytes, insert_bytes, duplicate_lines, delete_lines]
DAMAGES += [swap_lines, *[edit_number] * 6]


def damaged(seed: int, attempt: int) -> bytes:
    rng = random.Random(f"{seed} {attempt}")
    text = rng.choice(corpus())
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        text = rng.choice(DAMAGES)(rng, text) or b"\n"
    return text


def outcome_of(text: bytes) -> str:
    """The refusal without what varies in it, or that it has loaded."""
    try:
        booster = Booster.from_lightgbm_string(text.decode(errors="surrogateescape"))
    except ModelFormatError as error:
        return re.sub(r"'.*'|\[.*\]|-?\d+", "_", str(error))
    X = rows_for(booster)
    raw = booster.predict(X, raw_score=True, n_jobs=1)
    again = Booster.from_lightgbm_string(booster.to_lightgbm_string())
    np.testing.assert_array_equal(again.predict(X, raw_score=True, n_jobs=1), raw)
    if not booster._model.has_linear_leaves:
        booster.predict_contrib(X, n_jobs=1)
    return "loaded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    np.seterr(all="ignore")
    corpus()
    limit_memory(MEMORY_MIB)
    outcomes, failures = Counter(), []
    for attempt in range(args.count):
        text = damaged(args.seed, attempt)
        signal.alarm(SECONDS_PER_TEXT)  # nothing handles it: the process ends
        try:
            outcomes[outcome_of(text)] += 1
        except Exception as error:
            failures.append(f"text {attempt}: {type(error).__name__}: {error}")
        signal.alarm(0)
    for outcome, count in outcomes.most_common():
        print(f"{count:9}  {outcome}")
    print(f"{args.count} texts: {outcomes['loaded']} loaded, {len(failures)} failures")
    print("\n".join(failures[:20]))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
