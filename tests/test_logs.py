"""JSON lines: one object each, with the run and the request; steps and the end of a command."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from skinray.errors import SettingsError
from skinray.logs import JsonLines, configure, logged_run
from skinray.progress import Steps


@pytest.fixture(autouse=True)
def ours() -> Iterator[logging.Logger]:
    logger = logging.getLogger("skinray")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield logger
    logger.setLevel(before[0])
    logger.propagate, logger.handlers = before[1], before[2]


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_is_one_object_with_the_run() -> None:
    stream, environment = io.StringIO(), {"SKINRAY_LOG": "json"}
    assert configure(environment, stream)
    assert configure(environment, stream)  # twice is once
    logging.getLogger("skinray.service").info("a\nb %s", "c", extra={"request": "r1", "code": 200})
    try:
        raise ValueError("x\ny")
    except ValueError:
        logging.getLogger("skinray.service").exception("failed")
    first, second = lines(stream)
    assert (first["message"], first["level"], first["request"], first["code"]) == (
        "a\nb c", "INFO", "r1", 200,
    )  # fmt: skip
    assert first["run"] == second["run"] == environment["SKINRAY_RUN_ID"]
    assert first["time"].endswith("+00:00")
    assert "ValueError" in second["trace"]


def test_a_run_keeps_the_id_it_is_given() -> None:
    stream = io.StringIO()
    configure({"SKINRAY_LOG": "json", "SKINRAY_RUN_ID": "night-7"}, stream)
    logging.getLogger("skinray.run").warning("x")
    assert lines(stream)[0]["run"] == "night-7"


def test_without_the_variable_nothing_changes(ours: logging.Logger) -> None:
    assert not configure({})
    assert not [one for one in ours.handlers if isinstance(one.formatter, JsonLines)]


@pytest.mark.parametrize(
    "environment", [{"SKINRAY_LOG": "xml"}, {"SKINRAY_LOG": "json", "SKINRAY_LOG_LEVEL": "loud"}]
)
def test_unknown_values_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="write"):
        configure(environment)


def test_a_command_logs_its_steps_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with logged_run({"SKINRAY_LOG": "json"}):
            with Steps("Training", 3) as steps:
                steps.set(3)
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        command()
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["message"] for one in found] == ["began", "done", "ended"]
    assert (found[1]["step"], found[1]["done"], found[1]["total"]) == ("Training", 3, 3)
    assert found[2]["code"] == 3


def test_a_failure_is_logged_as_its_type_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages of errors name files: the log does not."""
    with pytest.raises(SettingsError), logged_run({"SKINRAY_LOG": "json"}):
        raise SettingsError("patient-7.png: unreadable: copy it")
    text = capsys.readouterr().err
    assert "patient-7" not in text
    assert json.loads(text.splitlines()[-1])["code"] == "SettingsError"
