"""One fit of one library in its own process: `launch` is the parent's side, `main` the child's.

The child gets its job as JSON on the command line and writes its record to a file, since libraries
print what they like. It loads the data, notes its memory, and only then bins, trains and predicts.
"""

from __future__ import annotations

import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import metrics
import peers
import sources
from results import Record

STAGES = 10  # numbers of rounds among which the one to stop at is chosen

_STATUS = Path("/proc/self/status")


def launch(peer: str, settings: peers.Settings, folder: Path, timeout: float) -> Record:
    """Fit `peer` on the data saved in `folder` in a child process.

    Returns
    -------
    dict
        `status` is "ok" (with seconds, metrics and memory), "unsupported", "timeout" or "failed";
        all but "ok" come with a `note`.
    """
    record: Record = {"peer": peer, **asdict(settings)}
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "record.json"
        job = {"peer": peer, "settings": asdict(settings)}
        command = [sys.executable, __file__, json.dumps(job), str(folder), str(answer)]
        environment = peers.thread_environment(settings.threads)
        try:
            child = subprocess.run(
                command, env=environment, timeout=timeout, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            return {**record, "status": "timeout", "note": f"stopped after {timeout:g} s"}
        if answer.exists():
            return {**record, **json.loads(answer.read_text())}
    return {**record, "status": "failed", "note": _cause(child)}


def _cause(child: subprocess.CompletedProcess[str]) -> str:
    """Why a child ended without a record: the last line it wrote, or its signal."""
    lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
    return lines[-1][:200] if child.returncode >= 0 else f"killed by signal {-child.returncode}"


def main(job: str, folder: str, answer: str) -> None:
    """The child: run the job, write the record."""
    request = json.loads(job)
    try:
        peer = peers.make(request["peer"], peers.Settings(**request["settings"]))
        record = {"status": "ok", **measure(peer, Path(folder))}
    except peers.UnsupportedTaskError as error:
        record = {"status": "unsupported", "note": str(error)}
    Path(answer).write_text(json.dumps(record))


def measure(peer: peers.Peer, folder: Path) -> Record:
    """Seconds of each phase, test metrics, and the peak of memory above the loaded data (MiB).

    With warm fits the seconds are their medians: the fit before them, with its lazy imports and
    new threads, does not count.
    """
    data = sources.open_folder(folder)
    train, test = sources.resident(data.train), sources.resident(data.test)
    memory_before = _mark_memory()
    fits = [peer.fit(train) for _ in range(1 + peer.settings.warm_fits)]
    binning, training = map(statistics.median, zip(*(fits[1:] or fits)))
    peak = _peak_memory() - memory_before
    prediction, predicting = peers.timed(peer.predict, test.X)
    return {
        "version": _version(peer),
        "binning_seconds": binning,
        "training_seconds": training,
        "prediction_seconds": predicting,
        "peak_mib": peak,
        **metrics.evaluate(data.task, test, prediction),
        **(stop_early(peer, data) if data.n_held_back else {}),
        **peer.facts(),
    }


def stop_early(peer: peers.Peer, data: sources.Data) -> Record:
    """The test loss at the number of rounds, of `STAGES`, that is best on the rows held back."""

    def loss(part: sources.Part, rounds: int) -> float:
        return metrics.evaluate(data.task, part, peer.predict(part.X, rounds))["loss"]

    stages = [round(peer.settings.rounds * (i + 1) / STAGES) for i in range(STAGES)]
    best = min(stages, key=lambda rounds: loss(data.held_back, rounds))
    return {"stopped_rounds": best, "stopped_loss": loss(data.test, best)}


def _version(peer: peers.Peer) -> str:
    root = sys.modules[peer.module.partition(".")[0]]
    return str(getattr(root, "__version__", "?"))


def _mark_memory() -> float:
    """Memory in use (MiB); from here on `_peak_memory` tells the peak, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status_mib("VmRSS")
    except OSError:
        return _peak_memory()


def _peak_memory() -> float:
    if _STATUS.exists():
        return _status_mib("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _status_mib(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    main(*sys.argv[1:])
