"""The one frame of all reports: a page complete in one file, and its figures as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from skinray.files import write_whole
from skinray.report.tables import grouped, many, number


def render(template: str, **values: Any) -> str:
    """Return a page as HTML; it needs no other file, no script and no network.

    Parameters
    ----------
    template : path below ``skinray/report``; it extends ``page.html``.
    """
    environment = Environment(
        loader=PackageLoader("skinray.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "many": many, "grouped": grouped, "yaml": _yaml}
    return environment.get_template(template).render(values)


def write_json(path: Path, figures: dict[str, Any]) -> Path:
    """Write figures unrounded; those that are not finite become null. The file appears whole."""
    return write_whole(path, json.dumps(_finite(figures), indent=1, allow_nan=False))


def _yaml(settings: dict[str, Any]) -> str:
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
