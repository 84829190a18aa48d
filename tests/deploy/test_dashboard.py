"""The dashboard shows exactly the metrics that the service exports."""

from __future__ import annotations

import ast
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana" / "service.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# What Prometheus sees of each kind; Ray puts ``ray_`` before.
ENDINGS = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket"]}


def exported() -> dict[str, set[str]]:
    """Read names and tags of the metrics from the source that makes them."""
    source = (ROOT / "skinray" / "cluster" / "serve" / "metrics.py").read_text(encoding="utf-8")
    found = {}
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        kind = call.func.id if isinstance(call.func, ast.Name) else ""
        if kind not in ENDINGS:
            continue
        tags = [ast.literal_eval(k.value) for k in call.keywords if k.arg == "tag_keys"]
        for ending in ENDINGS[kind]:
            found[f"ray_{ast.literal_eval(call.args[0])}{ending}"] = {t for ts in tags for t in ts}
    return found


def test_queried_and_exported_metrics_are_the_same() -> None:
    asked = {name for query in QUERIES for name in re.findall(r"ray_\w+", query)}
    assert len(exported()) == 11
    assert asked == set(exported())


def test_queries_group_by_tags_that_exist() -> None:
    for query in QUERIES:
        (name,) = re.findall(r"ray_\w+", query)
        for tags in re.findall(r"by \(([^)]*)\)", query):
            assert set(tags.split(", ")) - {"le"} <= exported()[name], query
        assert query.count("(") == query.count(")")


def test_legends_name_tags_of_their_query() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            for tag in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{tag}\b", target["expr"]), panel["title"]


def test_panels_are_complete_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in PANELS)


def test_any_grafana_can_import_it() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"]) == ("datasource", "datasource")
    sources = [panel["datasource"] for panel in PANELS]
    sources += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(s == {"type": "prometheus", "uid": "${datasource}"} for s in sources)
    assert "id" not in DASHBOARD
    assert DASHBOARD["schemaVersion"] >= 36
