"""The report of a cross-validated run: ``report.html`` and ``report.json``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from skinray.files import write_whole
from skinray.report.biopsies import paper
from skinray.report.biopsies.count_figures import bland_altman, scatter
from skinray.report.biopsies.examples import make_examples
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import Scores, score_run
from skinray.report.biopsies.tables import build_tables, component_split, mean_sd
from skinray.report.biopsies.training_figures import choice_table, grid_charts, training_curves
from skinray.report.biopsies.words import answer, caveats, explain_agreement, search_words
from skinray.report.page import render, write_json


def write_report(run_dir: Path) -> Path:
    """Render ``results.json`` of ``run_dir`` as a page for people and a file for programs.

    Both files appear whole or not at all. Where an image or prediction is gone, a sentence says so.

    Returns
    -------
    The path of ``report.html``, beside ``report.json``.

    Raises
    ------
    SkinrayError
        The folder holds no ``results.json``.
    """
    results = RunResults.load(run_dir)
    scores = score_run(results)
    sentences = {
        "answer": answer(scores),
        "failures": results.failures,
        "caveats": caveats(results, scores),
    }
    run = results.model_dump(exclude={"curves"})
    figures = {"scores": sentences | asdict(scores), "run": run}
    write_json(run_dir / "report.json", {"synthetic": results.synthetic} | figures)
    return write_whole(run_dir / "report.html", _page(results, scores, run_dir))


def _page(results: RunResults, scores: Scores, run_dir: Path) -> str:
    nerve, dermis, folds, second = build_tables(results, scores)
    counts, pooled, truth = results.counts, scores.pooled.agreement, scores.truth
    return render(
        "biopsies/page.html",
        results=results,
        scores=scores,
        paper=None if results.synthetic else paper,
        truth=truth,
        mean_sd=mean_sd,
        answer=answer(scores),
        failed_parts=results.failures,
        component_split=component_split(results),
        caveats=caveats(results, scores),
        fold_table=folds,
        second_table=second,
        arm_tables=(nerve, dermis),
        explained=explain_agreement(pooled, truth),
        charts=[scatter(counts, scores), bland_altman(counts, pooled, truth)] if counts else [],
        examples=make_examples(results, run_dir),
        curves=training_curves(results.curves),
        grids=grid_charts(results),
        search_words=search_words(results),
        choice_table=choice_table(results),
    )
