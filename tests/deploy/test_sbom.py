"""The list of parts names every pin once, in the form of CycloneDX, and is the same each time."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "sbom.py"
SBOM = runpy.run_path(str(SCRIPT))
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
# What CycloneDX 1.6 requires of the parts used here; its own schema is not available offline.
PART = {
    "type": "object",
    "required": ["type", "name"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string"},
        "version": {"type": "string", "maxLength": 1024},
        "purl": {"type": "string", "pattern": "^pkg:pypi/[a-z0-9-]+@[^@ ]+$"},
        "licenses": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "license": {
                        "type": "object",
                        "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
                    }
                },
            },
        },
    },
}
FORM = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {
            "pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
        },
        "version": {"type": "integer", "minimum": 1},
        "metadata": {"type": "object", "properties": {"component": PART}},
        "components": {"type": "array", "uniqueItems": True, "items": PART},
        "dependencies": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ref"],
                "properties": {"dependsOn": {"type": "array", "uniqueItems": True}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def listed() -> dict[str, Any]:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, check=True)
    return json.loads(done.stdout)


def test_it_has_the_form_of_cyclonedx(listed: dict[str, Any]) -> None:
    Draft202012Validator(FORM).validate(listed)
    refs = [part["bom-ref"] for part in listed["components"]]
    assert len(set(refs)) == len(refs)
    known = {*refs, listed["metadata"]["component"]["bom-ref"]}
    for one in listed["dependencies"]:
        assert {one["ref"], *one["dependsOn"]} <= known
    assert {one["ref"] for one in listed["dependencies"]} == known


def test_every_pin_is_a_part(listed: dict[str, Any]) -> None:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", PINS, re.M)
    assert len(lines) > 100
    parts = {part["name"]: part["version"] for part in listed["components"]}
    assert len(parts) == len(lines)
    for name, pinned in lines:
        assert parts[re.sub(r"[-_.]+", "-", name).lower()] == pinned
    assert parts["torch"] == version("torch").partition("+")[0]


def test_it_says_what_needs_what_under_which_licence(listed: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = listed["metadata"]["component"]
    assert own["version"] == project["version"]
    needs = {one["ref"]: one["dependsOn"] for one in listed["dependencies"]}
    assert len(needs[own["bom-ref"]]) == len(project["dependencies"])
    (starlette,) = (ref for ref in needs if ref.startswith("pkg:pypi/starlette@"))
    (fastapi,) = (ref for ref in needs if ref.startswith("pkg:pypi/fastapi@"))
    assert starlette in needs[fastapi]
    stated = [part for part in listed["components"] if "licenses" in part]
    assert len(stated) > 0.8 * len(listed["components"])


def test_a_line_that_pins_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="pins no version"):
        SBOM["pins"]("torch>=2.11\n")
    assert SBOM["pins"]("# all\nTorch_X==1.0  # so\n") == {"torch-x": "1.0"}
