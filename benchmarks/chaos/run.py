"""Break real jobs in every way that skinray promises to survive, and report what happened."""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.chaos import more, score, train, workers
from benchmarks.chaos.lab import Happened, Lab
from benchmarks.measure import RESULTS, machine, versions, write

ALONE = "continues on its own, ends with equal results"
RESUMED = "--resume keeps what was stored and ends with equal results"


@dataclass(frozen=True)
class Fault:
    """One way to break a job; ``within_s`` bounds the recovery where a time is promised."""

    job: str
    promised: str
    run: Callable[[Lab, random.Random], Happened]
    within_s: float | None = None


FAULTS = {
    "score: worker killed": Fault("scoring", ALONE, score.worker_killed, 60),
    "score: actor of claims killed": Fault("scoring", ALONE, score.claims_killed, 60),
    "score: driver killed": Fault("scoring", RESUMED, score.driver_killed),
    "score: raylet killed": Fault("scoring, 2 nodes", ALONE, score.raylet_killed, 60),
    "score: node killed": Fault("scoring, 2 nodes", ALONE, score.node_killed, 60),
    "score: node frozen for 8 s": Fault("scoring, 2 nodes", ALONE, score.node_frozen, 60),
    "score: GCS killed": Fault(
        "scoring, 2 nodes", "the job is lost; submitted again, " + RESUMED, score.gcs_killed
    ),
    "score: disk full": Fault(
        "scoring", "says why and ends; then " + RESUMED, score.disk_full
    ),
    "score: clock set back": Fault("scoring", ALONE, score.clock_jumps),
    "score: object store killed": Fault("scoring from and to S3", ALONE, more.store_killed),
    "score: object store slow": Fault("scoring from and to S3", ALONE, more.store_slow),
    "train: worker killed": Fault("training", ALONE, train.worker_killed, 60),
    "tune: worker killed": Fault("grid search", ALONE, train.searching_worker_killed, 60),
    "train: driver killed": Fault("training", RESUMED, train.driver_killed),
    "train: node killed": Fault("training, 2 nodes", ALONE, train.node_killed, 60),
    "train: checkpoint, one bit flipped": Fault(
        "training", "noticed, that part trained again; equal results", train.state_corrupted
    ),
    "train: checkpoint cut off": Fault(
        "training", "noticed, that part trained again; equal results", train.state_cut_off
    ),
    "train: disk full": Fault(
        "training", "says why and ends; then " + RESUMED, train.disk_full
    ),
    "train: clock set back": Fault("training", ALONE, train.clock_jumps),
    "workers: one of two killed": Fault(
        "training, 2 workers", ALONE, workers.one_of_two_killed, 60
    ),
    "workers: driver killed": Fault("training, 2 workers", RESUMED, workers.driver_killed),
    "workers: node of one killed": Fault(
        "training, 2 workers on 2 nodes", ALONE, workers.node_killed, 60
    ),
    "workers: node taken away after a notice": Fault(
        "training, 2 workers on 2 nodes", "stores its state at the notice, " + ALONE,
        workers.node_announced, 60,
    ),
    "workers: from one to two and back": Fault(
        "training, 1 to 2 workers",
        "takes the node that comes, continues without the one that goes; last loss within .02",
        workers.resized, 60,
    ),
    "train: loss NaN in one step": Fault(
        "one trial", "the step is skipped, no weight is damaged", more.nan_step
    ),
    "tune: loss NaN in a configuration": Fault(
        "grid search", "it fails and says why, is not chosen; other results equal",
        train.nan_in_search,
    ),
    "serve: replica killed": Fault(
        "service behind HAProxy", "99.9 % right answers with one retry",
        more.replica_killed, 30,
    ),
    "serve: overload": Fault(
        "service behind HAProxy", "503 at once beyond capacity, right answers within",
        more.overload,
    ),
}  # fmt: skip


def break_once(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """Bring one fault about and return what happened, kept or not."""
    fault, began = FAULTS[name], time.monotonic()
    try:
        happened = fault.run(lab, random.Random(f"{name} {seed}"))
    except (ImportError, PermissionError) as error:
        return {"name": name, "seed": seed, "not_run": str(error)}
    except Exception as error:  # whatever breaks here is a promise that was not kept
        happened = Happened(False, f"{type(error).__name__}: {str(error)[-1500:]}")
        traceback.print_exc()
    late = (
        fault.within_s is not None
        and happened.recovery_s is not None
        and happened.recovery_s > fault.within_s
    )
    return {
        "name": name, "seed": seed, "date": f"{date.today()}",
        "kept": happened.equal and not late, "late": late,
        "seconds": time.monotonic() - began, **asdict(happened),
    }  # fmt: skip


def table(runs: list[dict[str, Any]]) -> list[str]:
    """Return the rows of the table, a fault each, in the order of the list."""
    rows = []
    for name, fault in FAULTS.items():
        mine = [run for run in runs if run["name"] == name and "not_run" not in run]
        why = next((run["not_run"] for run in runs if run["name"] == name and "not_run" in run), "")
        if not mine:
            rows.append(f"| {name} | {fault.job} | {fault.promised} | not run {why} | | 0 | |")
            continue
        kept = sum(run["kept"] for run in mine)
        times = sorted(run["recovery_s"] for run in mine if run["recovery_s"] is not None)
        limit = f" (at most {fault.within_s:g})" if fault.within_s else ""
        span = f"{times[0]:.1f} to {times[-1]:.1f}{limit}" if times else ""
        said = "; ".join(dict.fromkeys(_short(run["what"]) for run in mine[-2:]))
        verdict = "kept" if kept == len(mine) else f"**NOT kept in {len(mine) - kept}**"
        rows.append(
            f"| {name} | {fault.job} | {fault.promised} | {verdict}: {said} | {span} | "
            f"{len(mine)} | {', '.join(sorted({run['date'] for run in mine}))} |"
        )
    return rows


def page(runs: list[dict[str, Any]], before: str) -> list[str]:
    """Return the lines of the result; ``before`` describes the machine when the runs started."""
    return [
        "# Faults, and what came of them", "",
        "Each run breaks a real job in its own processes, at a moment that its seed decides, "
        "and compares all final results (tables, pictures to the byte; for a training, all that "
        "was measured) with those of an undisturbed run. Recovery: from the fault, or from the "
        "call with `--resume` (start of Ray included), to the first new result of what was hit; "
        "for the service, the slowest answer. Serve's own proxy loses connections in an overload "
        "([serve_overload.md](serve_overload.md)); HAProxy, used here, does not.", "",
        "| fault | job | promised | what happened | recovery, s | runs | run on |",
        "|---|---|---|---|---|---|---|", *table(runs), "",
        f"{sum(r.get('kept', False) for r in runs)} of {sum('kept' in r for r in runs)} runs kept "
        f"their promise. `python -m benchmarks.chaos.run --runs 5` runs all of them. "
        f"The last runs, before: {before}. After: {machine()}. "
        f"{versions('ray', 'torch', 'pyarrow')}.",
    ]  # fmt: skip


def _short(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[-200:]


def main() -> None:
    """Run faults, add them to those run before, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="seeds of each fault, from 0 on")
    chosen = "name or beginning of names, may be repeated; default: all"
    parser.add_argument("--fault", action="append", metavar="NAME", help=chosen)
    parser.add_argument("--anew", action="store_true", help="forget the runs before")
    parser.add_argument("--missing", action="store_true", help="leave out what was run before")
    options = parser.parse_args()
    # Read when Ray Serve is imported: HAProxy is the proxy that the guide names for production.
    os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "1")
    record, before = RESULTS / "chaos.jsonl", machine()
    if options.anew:
        record.unlink(missing_ok=True)
    runs = _recorded(record)
    names = [name for name in FAULTS if name.startswith(tuple(options.fault or [""]))]
    done = {(r["name"], r["seed"]) for r in runs if "kept" in r} if options.missing else set()
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        lab = Lab(Path(scratch))
        for seed in range(options.runs):
            for name in names:
                if (name, seed) in done:
                    continue
                run = break_once(lab, name, seed)
                print(json.dumps(run), flush=True)
                runs = [r for r in runs if (r["name"], r["seed"]) != (name, seed)] + [run]
                RESULTS.mkdir(exist_ok=True)
                record.write_text("".join(f"{json.dumps(r)}\n" for r in runs), encoding="utf-8")
    write("chaos", page(runs, before))


def _recorded(record: Path) -> list[dict[str, Any]]:
    if not record.is_file():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
