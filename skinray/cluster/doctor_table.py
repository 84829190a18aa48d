"""The findings about a machine as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from skinray.cluster.doctor import Finding

COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


def table(findings: Iterable[Finding]) -> Table:
    """Draw one row a finding; texts are shown as they are, whatever brackets they hold."""
    drawn = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        drawn.add_row(
            Text(finding.level, COLOURS[finding.level]),
            Text(finding.what),
            Text(finding.found, overflow="fold"),
            Text(finding.remedy, overflow="fold"),
        )
    return drawn
