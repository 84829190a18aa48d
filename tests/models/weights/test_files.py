"""Published weights: import, download from a local server, and every way a file can be wrong."""

from __future__ import annotations

import json
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from skinray.errors import WeightsError
from skinray.files import sha256_of
from skinray.models import MODELS, build
from skinray.models.weights.load import (
    available,
    cache_dir,
    fetch,
    import_file,
    load_weights,
    rows,
)
from skinray.models.weights.published import WEIGHTS, PublishedWeights

OPTIONS = {"features": 2, "depth": 3}
Register = Callable[..., PublishedWeights]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/weights"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file as torch.save writes it, of a tiny U-Net."""
    torch.manual_seed(1)
    torch.save(build("unet", **OPTIONS).state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Put an entry for that U-Net into the table."""

    def put(url: str = "http://nowhere.invalid/tiny.pth", sha256: str | None = None) -> Any:
        entry = PublishedWeights(
            "tiny", "unet", "nothing", url, "none", sha256=sha256, options=OPTIONS
        )
        monkeypatch.setitem(WEIGHTS, "tiny", entry)
        return entry

    return put


class Server(ThreadingHTTPServer):
    """Serves one body at /tiny.pth; it may promise more bytes than it sends."""

    body = b""
    promised_extra = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path != "/tiny.pth":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body) + self.server.promised_extra))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def server(published: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.body = published.read_bytes()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server: Server, path: str = "/tiny.pth") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def tiny() -> nn.Module:
    torch.manual_seed(2)
    return build("unet", **OPTIONS)


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


# --- the table ---


def test_every_entry_names_a_network_an_address_and_a_licence() -> None:
    for name, entry in WEIGHTS.items():
        assert name == entry.name
        assert entry.model in MODELS
        assert entry.package or entry.shipped or entry.url.startswith("https://")
        assert entry.licence
        assert available(name) == bool(entry.shipped)
        if entry.sha256:
            assert len(entry.sha256) in (8, 64)
            assert entry.package or entry.sha256[:8] in entry.url
        with torch.device("meta"):
            build(entry.model, **entry.options)


def test_rows_show_which_weights_are_in_the_cache(published: Path, register: Register) -> None:
    assert [row["name"] for row in rows()] == list(WEIGHTS)
    hed = next(row for row in rows() if row["name"] == "hed_bsds500")
    assert hed["sha256"] == "not published; recorded at the first import"
    partly = next(row for row in rows() if row["name"] == "unet_brain_mri")
    assert partly["sha256"] == "published: e012d006...; recorded at the first import"
    assert hed["in cache"] == "no"
    assert all(isinstance(text, str) for row in rows() for text in row.values())


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_dir() == tmp_path / "cache/weights"
    monkeypatch.delenv("SKINRAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg/skinray/weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home/.cache/skinray/weights"


# --- import and load ---


def test_an_imported_file_is_kept_as_safetensors_and_loads(
    published: Path, register: Register
) -> None:
    entry = register(sha256=sha256_of(published)[:8])
    path = import_file("tiny", published)
    assert path == entry.cached
    assert available("tiny")
    network = tiny()
    load_weights(network, "tiny")
    expected = torch.load(published, weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    load_weights(tiny(), str(path))


def test_a_file_of_another_hash_is_refused(
    published: Path, register: Register, cache: Path
) -> None:
    register(sha256="0badc0de")
    with pytest.raises(WeightsError, match=r"tiny\.pth: SHA-256 .* is not the published 0badc0de"):
        import_file("tiny", published)
    assert left_in(cache) == []


@pytest.mark.parametrize("known", [None, 8])
def test_a_file_that_differs_from_the_first_import_is_refused(
    published: Path, register: Register, cache: Path, known: int | None
) -> None:
    """Where no hash is published, or only its first digits, which can be forged."""
    digest = sha256_of(published)
    register(sha256=digest[:known] if known else None)
    import_file("tiny", published).unlink()
    recorded = json.loads((cache / "first_imports.json").read_text(encoding="utf-8"))
    assert recorded == {"tiny": digest}
    import_file("tiny", published).unlink()
    torch.save(build("unet", **OPTIONS).state_dict(), published)
    register(sha256=sha256_of(published)[:known] if known else None)
    said = f"not that of the file first imported as 'tiny', {digest}"
    with pytest.raises(WeightsError, match=said):
        import_file("tiny", published)
    assert left_in(cache) == ["first_imports.json"]


def test_a_safetensors_copy_is_taken_by_its_layout(
    published: Path, register: Register, tmp_path: Path
) -> None:
    register(sha256="0badc0de")
    copy = tmp_path / "copy.safetensors"
    save_file(torch.load(published, weights_only=True), copy)
    assert import_file("tiny", copy).is_file()


def test_weights_of_another_architecture_are_named(
    register: Register, tmp_path: Path, cache: Path
) -> None:
    register()
    other = tmp_path / "other.safetensors"
    state = build("unet", features=3, depth=3).state_dict()
    del state["head.bias"]
    state["more"] = torch.zeros(1)
    save_file(state, other)
    for attempt in (lambda: import_file("tiny", other), lambda: load_weights(tiny(), str(other))):
        with pytest.raises(WeightsError) as caught:
            attempt()
        message = str(caught.value)
        assert "other.safetensors" in message
        assert "missing: head.bias" in message
        assert "unexpected: more" in message
        assert "encoders.0.conv1.weight (3, 3, 3, 3) for (2, 3, 3, 3)" in message
    assert left_in(cache) == []


def test_a_failed_load_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network, path = tiny(), tmp_path / "part.safetensors"
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    del state["head.bias"]
    save_file(state, path)
    with pytest.raises(WeightsError):
        load_weights(network, str(path))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_errors_for_missing_files_say_what_to_do(register: Register, published: Path) -> None:
    register()
    with pytest.raises(WeightsError, match="skinray weights import tiny FILE"):
        load_weights(tiny(), "tiny")
    with pytest.raises(
        WeightsError, match="not the name of published weights; use a path or one of hed_"
    ):
        load_weights(tiny(), "tinny")
    with pytest.raises(WeightsError, match=r"only \.safetensors files can be loaded"):
        load_weights(tiny(), str(published))
    with pytest.raises(WeightsError, match="unknown weights 'tinny'"):
        import_file("tinny", published)
    with pytest.raises(WeightsError, match="no such file"):
        import_file("tiny", published.with_name("absent.pth"))


# --- damaged and hostile files ---


class Hostile:
    """Unpickling this makes a folder: a stand-in for any code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.mark,)


@pytest.mark.parametrize("protocol", ["torch", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_does_not(
    protocol: str, tmp_path: Path, register: Register, cache: Path
) -> None:
    register()
    mark, path = tmp_path / "the code ran", tmp_path / "evil.pth"
    content = {"encoders.0.conv1.weight": Hostile(mark)}
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "torch")
    with pytest.raises(WeightsError, match=r"evil\.pth: not a plain file of weights") as caught:
        import_file("tiny", path)
    assert not mark.exists()
    # torch's own words advise to load the file with its code
    for advice in ("weights_only", "trust", "Do it only", "file an issue"):
        assert advice not in str(caught.value)
    assert left_in(cache) == []


@pytest.mark.parametrize("name", ["cut.pth", "text.pth", "empty.pth", "cut.safetensors"])
def test_a_damaged_file_is_named(
    name: str, published: Path, tmp_path: Path, register: Register, cache: Path
) -> None:
    register()
    whole = published.read_bytes()
    if name == "cut.safetensors":
        save_file(tiny().state_dict(), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
    content = {"text": b"<html>Not found</html>", "empty": b"", "cut": whole[: len(whole) // 2]}
    (tmp_path / name).write_bytes(content[name.split(".")[0]])
    with pytest.raises(WeightsError, match=name):
        import_file("tiny", tmp_path / name)
    assert left_in(cache) == []


def test_a_file_without_a_state_is_refused(tmp_path: Path, register: Register) -> None:
    register()
    path = tmp_path / "odd.pth"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="has no state_dict"):
        import_file("tiny", path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="'epoch' is not a tensor"):
        import_file("tiny", path)
    torch.save({"epoch": 3, "state_dict": tiny().state_dict()}, path)
    assert import_file("tiny", path).is_file()


# --- downloads ---


def test_a_download_is_checked_imported_and_kept(
    server: Server, published: Path, register: Register, cache: Path
) -> None:
    register(address(server), sha256_of(published))
    seen: list[tuple[int, int]] = []
    path = fetch("tiny", lambda done, total: seen.append((done, total)))
    size = published.stat().st_size
    assert seen[-1] == (size, size)
    assert left_in(cache) == ["first_imports.json", "tiny.safetensors"]
    assert load_file(path).keys() == tiny().state_dict().keys()
    server.body = b"gone"
    assert fetch("tiny") == path


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("cut", "of .* bytes received"),
        ("absent", "404"),
        ("changed", "not the published"),
        ("unpublished and not weights", "not a plain file of weights"),
    ],
)
def test_a_bad_download_leaves_nothing(
    case: str, says: str, server: Server, published: Path, register: Register, cache: Path
) -> None:
    digest = None if case.startswith("unpublished") else sha256_of(published)
    register(address(server, "/gone.pth" if case == "absent" else "/tiny.pth"), digest)
    server.promised_extra = 10 if case == "cut" else 0
    if case in ("changed", "unpublished and not weights"):
        server.body = b"something else"
    with pytest.raises(WeightsError, match=says):
        fetch("tiny")
    assert left_in(cache) == []


def test_offline_is_an_ordinary_state(register: Register, cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    register(f"http://127.0.0.1:{port}/tiny.pth")
    with pytest.raises(WeightsError) as caught:
        fetch("tiny")
    assert f"http://127.0.0.1:{port}/tiny.pth: cannot be downloaded" in str(caught.value)
    assert "skinray weights import tiny FILE" in str(caught.value)
    assert left_in(cache) == []


@pytest.mark.real_data
def test_the_real_brain_mri_file_can_be_imported(real_data: Path) -> None:
    import_file("unet_lgg", real_data / "weights/unet_lgg_depth4_f32.safetensors")
    network = build("unet_lgg")
    load_weights(network, "unet_lgg")
    state = network.state_dict()
    assert state["ups.0.bias"].count_nonzero() == 0
    assert state["encoders.0.norm1.running_mean"].abs().max() > 0
