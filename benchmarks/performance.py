"""The page of all speeds: ``docs/performance.md``, from the figures of the benchmarks.

Run: ``make bench``, which measures first; ``python -m benchmarks.performance`` writes the page
alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import recorded

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
# What is measured with the environment of `make setup`; the last but one takes half an hour.
SHORT = (
    "speed.augmentation", "speed.crossing_stage", "speed.tolerant_dice", "speed.data_scheduler",
    "speed.backends", "speed.one_image", "speed.score_efficiency", "serve.overhead",
)  # fmt: skip


def verdict(value: float, asked: str) -> str:
    """Return the limit with whether a value keeps it; empty if there is none."""
    if not asked:
        return ""
    sign, limit = asked.split()
    kept = value >= float(limit) if sign == ">=" else value <= float(limit)
    return f"{asked}: {'met' if kept else '**NOT met**'}"


def row(run: dict[str, Any]) -> str:
    """Return a line of the table."""
    link = f"[{run['benchmark']}](../benchmarks/results/{run['benchmark']}.md)"
    return (
        f"| {run['what']} | {run['value']:.3g} | {run['unit']} | "
        f"{verdict(run['value'], run['asked'])} | {link} | {run['machine']} |"
    )


def page(runs: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the page."""
    ordered = sorted(runs, key=lambda run: (run["benchmark"], run["what"]))
    return [
        "# Speed", "",
        "Each figure was measured on the machine named beside it, in the same run as what it is "
        "compared with. Ratios carry over to similar machines; seconds do not. `make bench` "
        "repeats the measurements in about an hour on an idle machine and writes this page. The "
        "file behind each line says how it was measured, and the [list of "
        "benchmarks](../benchmarks/README.md) has those that take longer or need more.", "",
        "| what | figure | unit | target | benchmark | machine |",
        "|---|---|---|---|---|---|",
        *map(row, ordered), "",
        "GPUs: not measured.",
    ]  # fmt: skip


def main() -> None:
    """Measure if asked to, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="run the short benchmarks first")
    failed = []
    if parser.parse_args().measure:
        for name in SHORT:
            print(f"== {name}", flush=True)
            if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
                failed.append(name)
    PAGE.write_text("\n".join(page(recorded("figures"))) + "\n", encoding="utf-8")
    print(PAGE)
    if failed:
        sys.exit(f"failed, so their figures are from before: {', '.join(failed)}")


if __name__ == "__main__":
    main()
