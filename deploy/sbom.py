"""Print the packages that skinray consists of as a CycloneDX 1.6 list (SBOM), in JSON.

    python deploy/sbom.py > sbom.json      # or `make sbom`

Names and versions are those of constraints.txt; licences and what needs what come from the
packages installed beside this script. One that is pinned but not installed is listed without them.
Equal input gives an equal list, so that two can be compared.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Names the list by its content.
SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "skinray.invalid")


def pins(text: str) -> dict[str, str]:
    """Return name -> version of a file of constraints; ValueError for a line that pins nothing."""
    found = {}
    for line in text.splitlines():
        words = line.partition("#")[0].strip()
        if not words:
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(\s*;.*)?", words)
        if match is None:
            raise ValueError(f"constraints.txt: '{words}' pins no version: write NAME==VERSION")
        found[str(canonicalize_name(match[1]))] = match[2]
    return found


def purl(name: str, version: str) -> str:
    """Return the address of a package in the terms of package-url."""
    return f"pkg:pypi/{name}@{version}"


def licence(name: str) -> str | None:
    """Return the licence that an installed package states, on one line."""
    try:
        facts = distribution(name).metadata
    except PackageNotFoundError:
        return None
    stated = facts.get("License-Expression") or facts.get("License") or ""
    words = [c.split(" :: ")[-1] for c in facts.get_all("Classifier") or [] if "License ::" in c]
    one_line = " ".join(stated.split())
    return one_line if 0 < len(one_line) <= 80 else ", ".join(words) or None


def needs(name: str) -> list[str]:
    """Return what an installed package needs here, without its extras."""
    try:
        stated = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    found = set()
    for text in stated:
        try:
            one = Requirement(text)
        except InvalidRequirement:
            continue
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            found.add(str(canonicalize_name(one.name)))
    return sorted(found)


def component(name: str, version: str) -> dict[str, Any]:
    """Return one part."""
    address = purl(name, version)
    part: dict[str, Any] = {
        "type": "library", "bom-ref": address, "name": name, "version": version, "purl": address,
    }  # fmt: skip
    stated = licence(name)
    return part | ({"licenses": [{"license": {"name": stated}}]} if stated else {})


def document(constraints: str, project: dict[str, Any]) -> dict[str, Any]:
    """Return the whole list for a file of constraints and the project's own facts."""
    versions = pins(constraints)
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    direct = {str(canonicalize_name(Requirement(one).name)) for one in project["dependencies"]}
    wanted = {own: direct} | {purl(n, v): set(needs(n)) for n, v in versions.items()}
    digest = hashlib.sha256(constraints.encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(SPACE, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": own, "name": project["name"],
                "version": project["version"], "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            },
            "properties": [{"name": "skinray:constraints:sha256", "value": digest}],
        },
        "components": [component(name, versions[name]) for name in sorted(versions)],
        "dependencies": [
            {
                "ref": ref,
                "dependsOn": [purl(name, versions[name]) for name in sorted(names & set(versions))],
            }
            for ref, names in sorted(wanted.items())
        ],
    }  # fmt: skip


def main() -> None:
    """Print the list of this repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = document((ROOT / "constraints.txt").read_text(encoding="utf-8"), project)
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
