"""Time predictions of GBDT libraries side by side, each in a process of its own.

Every library trains a model of the same size on the same data, then predicts: all test rows at
once, and one row a call. lleaves compiles the model that LightGBM trained, treelite reads it, and
"lightgbm-fast" is LightGBM's C function for single rows, called from Python.

Examples
--------
python bench/predict.py --rounds 500 --leaves 255 --threads 1,2
python bench/predict.py --rounds 100 --leaves 31 --peers qgbdt,lightgbm,lightgbm-fast,lleaves
python bench/predict.py --repeat 3 --peers qgbdt-contrib,lightgbm-contrib
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import peers
import results
import shapes
from results import Record

# What a library's model is asked: (X, threads) -> predictions; None where it has no such call.
Predict = Callable[[np.ndarray, int], Any]
TEST_ROWS = 20_000


def qgbdt(peer: peers.Peer) -> Predict:
    booster = peer.model.booster_
    return lambda X, threads: booster.predict(X, n_jobs=threads)


def lightgbm(peer: peers.Peer) -> Predict:
    return lambda X, threads: peer.model.predict(X, num_threads=threads)


def qgbdt_contrib(peer: peers.Peer) -> Predict:
    booster = peer.model.booster_
    return lambda X, threads: booster.predict_contrib(X, n_jobs=threads)


def lightgbm_contrib(peer: peers.Peer) -> Predict:
    return lambda X, threads: peer.model.predict(X, pred_contrib=True, num_threads=threads)


def lightgbm_fast(peer: peers.Peer) -> Predict:
    """LGBM_BoosterPredictForMatSingleRowFast; for one float64 row."""
    library, booster = peer.library.basic._LIB, peer.model
    config, length, out = ctypes.c_void_p(), ctypes.c_int64(), ctypes.c_double()
    normal, float64, n_columns = 0, 1, booster.num_feature()
    status = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, normal, 0, -1, float64, n_columns, b"num_threads=1", ctypes.byref(config)
    )
    if status != 0:
        raise RuntimeError("LightGBM has no fast path for this model")
    length_ref, out_ref = ctypes.byref(length), ctypes.byref(out)

    def predict(X: np.ndarray, threads: int) -> float:
        row = ctypes.c_void_p(X.ctypes.data)
        library.LGBM_BoosterPredictForMatSingleRowFast(config, row, length_ref, out_ref)
        return out.value

    return predict


@contextmanager
def model_file(peer: peers.Peer) -> Iterator[Path]:
    """LightGBM's model as a text file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.txt")
        peer.model.save_model(path)
        yield path


def lleaves(peer: peers.Peer) -> Predict:
    import lleaves

    with model_file(peer) as path:
        compiled = lleaves.Model(model_file=path)
        compiled.compile()
    return lambda X, threads: compiled.predict(X, n_jobs=threads)


def treelite(peer: peers.Peer) -> Predict:
    """Its own reader of trees; nothing is compiled."""
    import treelite

    with model_file(peer) as path:
        model = treelite.frontend.load_lightgbm_model(path)
    return lambda X, threads: treelite.gtil.predict(model, X, nthread=threads)


def xgboost(peer: peers.Peer) -> Predict:
    def predict(X: np.ndarray, threads: int) -> Any:
        peer.model.set_param({"nthread": threads})
        return peer.model.inplace_predict(X)

    return predict


def catboost(peer: peers.Peer) -> Predict:
    return lambda X, threads: peer.model.predict(X, "Probability", thread_count=threads)


# name: (the peer that trains, the module that predicts, how, batches too)
LIBRARIES: dict[str, tuple[str, str, Callable[[peers.Peer], Predict], bool]] = {
    "qgbdt": ("qgbdt", "qgbdt", qgbdt, True),
    "lightgbm": ("lightgbm", "lightgbm", lightgbm, True),
    "lightgbm-fast": ("lightgbm", "lightgbm", lightgbm_fast, False),
    "lleaves": ("lightgbm", "lleaves", lleaves, True),
    "treelite": ("lightgbm", "treelite", treelite, True),
    "xgboost": ("xgboost", "xgboost", xgboost, True),
    "catboost": ("catboost", "catboost", catboost, True),  # symmetric trees
    "qgbdt-contrib": ("qgbdt", "qgbdt", qgbdt_contrib, True),  # SHAP values
    "lightgbm-contrib": ("lightgbm", "lightgbm", lightgbm_contrib, True),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    args = parse(argv)
    if args.child:
        print(json.dumps(measure(args.peers[0], args)))
        return
    threads = ", ".join(map(str, args.threads))
    print(
        f"{args.shape}: {TEST_ROWS:,} test rows; {args.rounds} trees of {args.leaves} leaves; "
        f"threads {threads}; medians of {args.repeat} calls"
    )
    records = []
    for name in args.peers:
        if importlib.util.find_spec(LIBRARIES[name][1]) is None:
            print(f"left out: {name} (not installed)")
        else:
            records.append(launch(name, args))
    print(f"\n{report(records, args.threads)}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    binary = [name for name, shape in shapes.SHAPES.items() if shape.task == "binary"]
    parser.add_argument("--shape", choices=binary, default="higgs", help="simulated data")
    parser.add_argument("--rows", type=int, default=80_000, help="training rows (default 80000)")
    parser.add_argument("--rounds", type=int, default=100, help="trees (default 100)")
    parser.add_argument("--leaves", type=int, default=31, help="leaves of a tree (default 31)")
    parser.add_argument(
        "--threads", type=lambda text: [int(t) for t in text.split(",")], default=[1, 2]
    )
    parser.add_argument("--repeat", type=int, default=5, help="timed calls a batch (default 5)")
    parser.add_argument(
        "--peers",
        type=peer_list,
        default=[name for name in LIBRARIES if not name.endswith("contrib")],
        help=f"comma-separated, of: {', '.join(LIBRARIES)}",
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def peer_list(text: str) -> list[str]:
    """Parse `--peers`."""
    names = text.split(",")
    if unknown := [name for name in names if name not in LIBRARIES]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def launch(name: str, args: argparse.Namespace) -> Record:
    """Measure one library in a child process."""
    options = {"shape": args.shape, "rows": args.rows, "rounds": args.rounds}
    options |= {"leaves": args.leaves, "repeat": args.repeat, "peers": name}
    options["threads"] = ",".join(map(str, args.threads))
    command = [sys.executable, __file__, "--child"]
    command += [f"--{key}={value}" for key, value in options.items()]
    environment = peers.thread_environment(max(args.threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(f"  {name}: {'ok' if done.returncode == 0 else 'failed'}", file=sys.stderr)
    if done.returncode != 0:
        return {"peer": name}
    return {"peer": name, **json.loads(done.stdout.strip().splitlines()[-1])}


def measure(name: str, args: argparse.Namespace) -> Record:
    """The child: nanoseconds a row and tree by number of threads, microseconds of a single row."""
    trainer, _, prepare, batches = LIBRARIES[name]
    data = shapes.make(args.shape, max(args.rows, 4 * TEST_ROWS), 0)
    settings = peers.Settings(
        task=data.task, rounds=args.rounds, leaves=args.leaves, threads=max(args.threads)
    )
    peer = peers.make(trainer, settings)
    peer.fit(data.train)
    predict, X = prepare(peer), data.test.X[:TEST_ROWS]
    record: Record = {"ns": {}}
    for threads in args.threads if batches else ():
        seconds = median_seconds(lambda n=threads: predict(X, n), args.repeat)
        record["ns"][str(threads)] = seconds * 1e9 / len(X) / args.rounds
    rows = [np.ascontiguousarray(row[None], np.float64) for row in X[:500]]
    record["single"] = median_seconds(lambda: [predict(row, 1) for row in rows], 5) * 1e6 / 500
    return record


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median time of a call, after one that is not timed."""
    call()
    return statistics.median(peers.timed(call)[1] for _ in range(repeats))


def report(records: Sequence[Record], threads: Sequence[int]) -> str:
    """The table; ratios above 1 mean that the first library is faster."""
    header = ["library"]
    header += [text for n in threads for text in (f"ns, {n} thr", "x")] + ["single row us", "x"]
    rows, first = [], records[0] if records else {}
    for record in records:
        cells = [record["peer"]]
        for n in threads:
            figure = record.get("ns", {}).get(str(n))
            cells += figures(figure, first.get("ns", {}).get(str(n)))
        rows.append(cells + figures(record.get("single"), first.get("single")))
    legend = f"ns: a row and tree, of the whole batch; x: time over that of {first.get('peer')}"
    return f"{results.table(header, rows)}\n\n{legend}"


def figures(value: float | None, reference: float | None) -> list[str]:
    """A time and its ratio to the reference's."""
    ratio = value / reference if value is not None and reference else None
    return [results.number(value, 3), results.number(ratio, 3)]


if __name__ == "__main__":
    main()
