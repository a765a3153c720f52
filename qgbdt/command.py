"""qgbdt: train, predict, look at a model and convert it, from the command line.

    qgbdt train --data train.csv --eval-data valid.csv --target y --task regression \\
        --params params.toml --output model.txt
    qgbdt predict --model model.txt --data test.csv --output predictions.csv
    qgbdt info --model model.txt
    qgbdt convert --model model.txt --to lightgbm --output lightgbm.txt

Parameters are those of the Python estimators. A file params.toml:

    n_estimators = 500
    num_leaves = 63
    early_stopping_rounds = 20

Models are qgbdt's own or LightGBM's, whichever a file holds. Several machines train one model with
the command qgbdt-worker.

Exit codes: 0 done; 2 the command line is wrong; 3 the parameters, the data or the model are;
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt.booster import Booster
from qgbdt.errors import DataError, QGBDTError
from qgbdt.files import write_atomically
from qgbdt.table_files import (
    KINDS_OF_TABLES,
    add_columns,
    add_estimator,
    arguments,
    check_classes,
    estimator_of,
    evaluation,
    load,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(argv)
    try:
        args.run(args)
    except (QGBDTError, ValueError, OSError, ImportError) as error:
        print(f"qgbdt: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "qgbdt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("train", help="train a model on the rows of a table")
    one.set_defaults(run=train)
    data = one.add_argument_group("the rows")
    data.add_argument("--data", required=True, type=Path, metavar="TABLE", help=KINDS_OF_TABLES)
    data.add_argument(
        "--eval-data",
        action="append",
        default=[],
        type=Path,
        metavar="TABLE",
        help="rows whose metrics are found while training; more than once",
    )
    add_columns(data)
    fit = one.add_argument_group("the model")
    add_estimator(fit)
    add_output(fit, "MODEL")
    fit.add_argument("--checkpoint-dir", type=Path, metavar="D", help="where the trees are kept")
    fit.add_argument("--resume", action="store_true", help="go on from the checkpoint, if any")
    one.add_argument("--verbose", action="store_true", help="report progress on stderr")

    one = commands.add_parser("predict", help="predict the rows of a table")
    one.set_defaults(run=predict)
    add_model(one)
    one.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="TABLE",
        help=f"{KINDS_OF_TABLES}; has the model's features among its columns, or only these, in "
        "order",
    )
    what = one.add_mutually_exclusive_group()
    for option, help_text in (
        ("--raw-score", "scores in link space"),
        ("--leaf", "the leaf in each tree"),
        ("--contrib", "what each feature adds to the score: SHAP values"),
    ):
        what.add_argument(option, action="store_true", help=help_text)
    add_output(one, "TABLE", "a .csv or .npy")

    one = commands.add_parser("info", help="say what a model is, and what it uses most")
    one.set_defaults(run=info)
    add_model(one)

    one = commands.add_parser("convert", help="write a model in another format")
    one.set_defaults(run=convert)
    add_model(one)
    one.add_argument("--to", required=True, choices=["qgbdt", "lightgbm"])
    add_output(one, "MODEL")
    return parser.parse_args(argv)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, type=Path, metavar="MODEL", help="of qgbdt or of LightGBM"
    )


def add_output(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, kind: str, text: str = ""
) -> None:
    parser.add_argument("--output", required=True, type=Path, metavar=kind, help=text)


def train(args: argparse.Namespace) -> None:
    """Fit, and write the model."""
    estimator = estimator_of(args)
    data = arguments(load(args.data), args)
    evaluated = [arguments(load(path), args) for path in args.eval_data]
    if args.task == "classification":
        check_classes(np.unique(data["y"]))
    going_on = {"checkpoint_dir": args.checkpoint_dir, "resume": args.resume}
    estimator.fit(**data, **evaluation(evaluated, args), **going_on)
    estimator.booster_.save_model(args.output)


def predict(args: argparse.Namespace) -> None:
    """Write what the model says of the rows, a column a number."""
    if args.output.suffix not in (".csv", ".npy"):
        raise DataError(f"{args.output} must end with .csv or .npy.")
    booster = load_any(args.model)
    X = features(load(args.data), booster.feature_name())
    if args.leaf:
        values: NDArray[Any] = booster.apply(X)
    elif args.contrib:
        values = booster.predict_contrib(X)
    else:
        values = booster.predict(X, raw_score=args.raw_score)
    if args.output.suffix == ".npy":
        with open(args.output, "wb") as file:
            np.save(file, values)
        return
    rows = values.reshape(len(values), -1).tolist()
    names = [f"prediction_{i}" for i in range(len(rows[0]))] if values.ndim > 1 else ["prediction"]
    lines = [",".join(names), *(",".join(map(repr, row)) for row in rows)]
    write_atomically(args.output, ("\n".join(lines) + "\n").encode())


def info(args: argparse.Namespace) -> None:
    """Print facts about the model, and its features by importance."""
    booster = load_any(args.model)
    facts = {
        "objective": booster.objective,
        "features": booster.num_feature(),
        "iterations": booster.n_iterations,
        "trees": booster.num_trees(),
        "leaves": sum(int((nodes["feature"] < 0).sum()) for nodes in booster.trees()),
    }
    for name, fact in facts.items():
        print(f"{name:>10}: {fact}")
    gain, splits = booster.feature_importance("gain"), booster.feature_importance("split")
    print(f"\n{'gain':>12} {'splits':>8}  feature")
    names = booster.feature_name()
    for i in np.argsort(-gain, kind="stable")[: np.count_nonzero(splits)]:
        print(f"{gain[i]:12.6g} {splits[i]:8}  {names[i]}")


def convert(args: argparse.Namespace) -> None:
    """Write the model in the other format."""
    booster = load_any(args.model)
    if args.to == "lightgbm":
        booster.save_lightgbm(args.output)
    else:
        booster.save_model(args.output)


def load_any(path: Path) -> Booster:
    """The model of a file of either format."""
    with open(path, "rb") as file:
        is_lightgbm = file.read(4) == b"tree"
    return Booster.load_lightgbm(path) if is_lightgbm else Booster.load_model(path)


def features(columns: Any, names: Sequence[str]) -> Any:
    """The columns that are the model's features, as an array."""
    if set(names) <= set(columns):
        return np.column_stack([np.asarray(columns[name]) for name in names])
    if set(columns) == {"X"}:
        return columns["X"]
    if len(list(columns)) == len(names) and names[0] == "Column_0":  # it was trained on an array
        return np.column_stack([np.asarray(columns[name]) for name in columns])
    missing = [name for name in names if name not in columns]
    raise DataError(f"The data has no column {missing[0]!r}, which is a feature of the model.")


if __name__ == "__main__":
    sys.exit(main())
