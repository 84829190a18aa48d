"""The report of a run: ``report.html``, complete in one file, and ``report.json``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from skinray.files import write_whole
from skinray.report.biopsies import paper
from skinray.report.biopsies.examples import make_examples
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import Scores, score_run
from skinray.report.biopsies.tables import build_tables, component_split, interval, mean_sd, number
from skinray.report.biopsies.training_figures import choice_table, grid_charts, training_curves
from skinray.report.biopsies.words import answer, caveats, explain_agreement, search_words
from skinray.report.charts import bland_altman, scatter


def write_report(run_dir: Path) -> Path:
    """Render ``results.json`` of ``run_dir`` as a page for people and a file for programs.

    Both files appear whole or not at all. The page needs no other file, no script and no
    network. An image or prediction that is gone is replaced by a sentence.

    Returns
    -------
    The path of ``report.html``; ``report.json`` lies beside it.

    Raises
    ------
    SkinrayError
        The folder holds no ``results.json``.
    """
    results = RunResults.load(run_dir)
    scores = score_run(results)
    write_whole(
        run_dir / "report.json", json.dumps(_exact(results, scores), indent=1, allow_nan=False)
    )
    return write_whole(run_dir / "report.html", render(results, scores, run_dir))


def render(results: RunResults, scores: Scores, run_dir: Path) -> str:
    """Return the page as HTML."""
    nerve, dermis, folds, second = build_tables(results, scores)
    counted = bool(results.counts)
    return (
        page_templates()
        .get_template("template.html")
        .render(
            results=results,
            scores=scores,
            paper=paper,
            answer=answer(scores),
            component_split=component_split(results),
            caveats=caveats(results, scores),
            fold_table=folds,
            second_table=second,
            arm_tables=(nerve, dermis),
            explained=explain_agreement(scores.pooled.agreement),
            charts=[
                scatter(results.counts, scores),
                bland_altman(results.counts, scores.pooled.agreement),
            ]
            if counted
            else [],
            examples=make_examples(results, run_dir),
            curves=training_curves(results.curves),
            grids=grid_charts(results),
            search_words=search_words(results),
            choice_table=choice_table(results),
            settings=yaml.safe_dump(results.settings, sort_keys=False, allow_unicode=True),
            minutes=results.seconds / 60,
        )
    )


def page_templates() -> Environment:
    """Return where the pages' templates come from, with the filters that they use."""
    environment = Environment(
        loader=PackageLoader("skinray.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "mean_sd": mean_sd, "interval": interval}
    return environment


def _exact(results: RunResults, scores: Scores) -> dict[str, Any]:
    """Every figure unrounded; what is not known or not finite is null."""
    told = results.model_dump(exclude={"curves"})
    tables = {"answer": answer(scores), "caveats": caveats(results, scores), **asdict(scores)}
    exact: dict[str, Any] = plain({"scores": tables, "run": told})
    return exact


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what is not finite is None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
