"""What all settings share: frozen, validated, overridden by path, read and written as YAML."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from skinray.errors import SettingsError

T = TypeVar("T", bound="Settings")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
# Longer ones are no measurement.
_DIGITS = 40


def parse_number(text: str) -> float:
    """Read a number that comes as text, such as 0.5, .5 or 5e-1; spaces around it are ignored.

    Raises
    ------
    ValueError
        For anything else, also what ``float`` takes: NaN, infinity, 1_0, digits of other scripts.
    """
    bare = text.strip()
    value = float(bare) if len(bare) <= _DIGITS and _NUMBER.fullmatch(bare) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{bare[:_DIGITS]}' is not a number")
    return value


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def override(self, changes: dict[str, Any]) -> Self:
        """Return a copy with dotted paths replaced, e.g. ``{"train.learning_rate": 1e-4}``.

        Members of a list are addressed by number: ``nerve.baselines.0.train.epochs``.

        Raises SettingsError if a path names no setting (only ``options`` takes new keys), or a
        value is invalid.
        """
        values = self.model_dump(mode="json")
        for path, value in changes.items():
            *parents, last = path.split(".")
            place: Any = values
            for depth, key in enumerate(parents):
                at = _key(place, key)
                if at is None or not isinstance(place[at], dict | list):
                    raise SettingsError(_unknown(path, parents[:depth], place))
                place = place[at]
            at = last if parents[-1:] == ["options"] else _key(place, last)
            if at is None:
                raise SettingsError(_unknown(path, parents, place))
            place[at] = value
        return validate(type(self), values)

    def fingerprint(self, without: frozenset[str] = frozenset()) -> str:
        """Return the SHA-256 of the settings as canonical JSON, ``without`` some top-level ones."""
        values = self.model_dump(mode="json", exclude=set(without))
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _key(place: dict[str, Any] | list[Any], key: str) -> Any:
    """Return the index of ``key`` in ``place``; None if it has no such member."""
    if isinstance(place, dict):
        return key if key in place else None
    return int(key) if key.isdecimal() and int(key) < len(place) else None


def _unknown(path: str, parents: list[str], place: dict[str, Any] | list[Any]) -> str:
    known = sorted(place) if isinstance(place, dict) else [str(i) for i in range(len(place))]
    where = f" below '{'.'.join(parents)}'" if parents else ""
    return f"unknown settings key '{path}': use one of {', '.join(known) or '(none)'}{where}"


def validate(kind: type[T], values: Any, source: str = "settings") -> T:
    """Build settings of ``kind`` from plain values; one SettingsError lists every problem."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
            reason = problem["msg"]
            if problem["type"] == "extra_forbidden":
                reason = "unknown key: remove it or correct its spelling"
            lines.append(f"  {where}: {reason}")
        raise SettingsError(f"{source}: invalid settings\n" + "\n".join(lines)) from None


class _Loader(yaml.SafeLoader):
    """Reads ``1e-4`` as a number, as YAML 1.2 does; PyYAML alone reads it as text."""


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`_Loader` reads: quotes text that looks like a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text; yaml.YAMLError if it is invalid."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        loader.dispose()


def yaml_reason(error: yaml.YAMLError) -> str:
    """Return what is wrong with a YAML text, and where, on one line."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join((getattr(error, "problem", None) or str(error)).split())


def to_yaml(settings: Settings) -> str:
    """Write settings as YAML that :func:`from_yaml` reads back to an equal object."""
    values = settings.model_dump(mode="json")
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def from_yaml(kind: type[T], path: Path) -> T:
    """Read settings of ``kind`` from a YAML file; errors name the file and the key."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not valid YAML (not UTF-8): save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML ({yaml_reason(error)}): correct it") from None
    return validate(kind, values, str(path))


def by_name(kind: type[T], recipes: Mapping[str, Callable[[], T]], name: str) -> T:
    """Return the settings of a recipe, or read them from a YAML file of all settings.

    Raises SettingsError if no recipe has that name, or the file is missing or invalid.
    """
    if name in recipes:
        return recipes[name]()
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        return from_yaml(kind, path)
    raise SettingsError(
        f"no recipe '{name}': use one of {', '.join(sorted(recipes))}, or a .yaml file"
    )


def changes_of(assignments: Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what a command line changes, for :meth:`Settings.override`.

    ``assignments`` are the values of ``--set``. ``options``, by path, are the settings with an
    option of their own, which override ``--set``; None: not given.
    """
    given = {path: value for path, value in options.items() if value is not None}
    return dict(map(parse_assignment, assignments or [])) | given


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read ``path.to.setting=VALUE``, the value in YAML; SettingsError if it is anything else."""
    path, sign, value = text.partition("=")
    if not sign or not path.strip():
        raise SettingsError(f"--set '{text}': write path.to.setting=VALUE")
    try:
        return path.strip(), parse_yaml(value)
    except yaml.YAMLError as error:
        reason = yaml_reason(error)
        raise SettingsError(f"--set '{text}': the value is not YAML ({reason}): quote it") from None
