"""The runbook quotes what the program says, and every reason of the service is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from skinray.service.problems import REASONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guides" / "runbook.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`]+)`¹", TEXT)
OF_THE_CLIENT = {
    "bad_request", "bad_tensor", "cross_site", "not_found", "method_not_allowed", "not_acceptable",
    "unsupported_media_type", "invalid_field", "bad_um_per_px", "unfit_label", "unauthorized",
}  # fmt: skip


def said() -> str:
    """All text constants of the program, parts of one message joined."""
    found = []
    for path in sorted((ROOT / "skinray").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_quoted_word_is_the_programs_own() -> None:
    assert len(QUOTED) > 35
    text = said()
    assert [words for words in QUOTED if words not in text] == []


def test_every_reason_that_an_operator_can_fix_is_in_it() -> None:
    assert set(REASONS) >= OF_THE_CLIENT
    assert [one for one in REASONS if one not in OF_THE_CLIENT and one not in QUOTED] == []
