"""What the commands share: tables of rows in files, and the estimator that is to be fitted."""

import argparse
import json
import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt.errors import DataError, ParameterError
from qgbdt.validation import query_sizes_of

KINDS_OF_TABLES = (
    ".csv, .parquet, .npz (an array a column, or X and others) or .npy (columns 0, 1, ...)"
)
TASKS = {
    "classification": "QGBDTClassifier",
    "regression": "QGBDTRegressor",
    "ranking": "QGBDTRanker",
}

# --- The command line


def add_columns(parser: argparse._ArgumentGroup) -> None:
    """Arguments that name the columns that are no features."""
    parser.add_argument("--target", required=True, metavar="COLUMN")
    parser.add_argument("--weight", metavar="COLUMN")
    parser.add_argument("--query", metavar="COLUMN", help="the query of each row, for ranking")


def add_estimator(parser: argparse._ArgumentGroup) -> None:
    """Arguments that say what is fitted."""
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument(
        "--params", type=Path, metavar="FILE", help="parameters of the estimator: .toml, or JSON"
    )


def estimator_of(args: argparse.Namespace) -> Any:
    """The estimator that the command line asks for; if it is verbose, so is the estimator."""
    import qgbdt

    params = parameters(args.params) if args.params else {}
    if args.verbose:
        params = {"verbose": 1, **params}
        logging.basicConfig(format="%(message)s")
        logging.getLogger("qgbdt").setLevel("INFO")
    return getattr(qgbdt, TASKS[args.task])().set_params(**params)


def parameters(path: Path) -> dict[str, Any]:
    """The parameters of a file."""
    text = path.read_text()
    if path.suffix == ".toml":
        return tomllib.loads(text)
    params = json.loads(text)
    if not isinstance(params, dict):
        raise ParameterError(f"{path} must hold a JSON object, name to value.")
    return params


# --- Tables


def load(path: Path) -> Any:
    """The columns of a table by name: a DataFrame or a dict; X of .npz may be many columns."""
    if path.suffix == ".npy":
        table = np.load(path, allow_pickle=False)
        if table.ndim != 2:
            raise DataError(f"{path} must hold a table, got {table.ndim} dimensions.")
        return {str(i): column for i, column in enumerate(table.T)}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path} must end with .csv, .parquet, .npz or .npy.")
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"To read {path} needs pandas: pip install pandas.") from error
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def arguments(columns: Any, args: argparse.Namespace) -> dict[str, Any]:
    """What fit is called with: named columns apart, all others are features."""
    taken: dict[str, Any] = {}
    for name, argument in ((args.target, "y"), (args.weight, "sample_weight"), (args.query, "qid")):
        if name is None:
            continue
        if name not in columns:
            raise DataError(f"The data has no column {name!r}, but {', '.join(columns)}.")
        taken[argument] = np.asarray(columns.pop(name))
    if not isinstance(columns, dict):
        X = columns
    elif set(columns) == {"X"}:
        X = columns["X"]
    else:
        X = np.column_stack(list(columns.values()))
    return {"X": X, **taken}


def evaluation(sets: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """What fit is called with for tables of evaluation sets."""
    if not sets:
        return {}
    given: dict[str, Any] = {"eval_set": [(some["X"], some["y"]) for some in sets]}
    if args.weight is not None:
        given["eval_sample_weight"] = [some["sample_weight"] for some in sets]
    if args.query is not None:
        given["eval_group"] = [query_sizes_of(some["qid"], len(some["y"])) for some in sets]
    return given


def check_classes(classes: NDArray[Any]) -> None:
    """A model file has outputs, but no labels."""
    if list(classes) != list(range(len(classes))):
        raise DataError(
            f"The classes of --task classification must be 0, 1, 2, ..., got {classes.tolist()}."
        )
