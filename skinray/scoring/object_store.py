"""Object stores by address: S3 and compatible servers through pyarrow, all others through fsspec.

Credentials and region come from where every AWS tool finds them (environment, profile, role of the
machine); ``AWS_ENDPOINT_URL`` names a server other than Amazon's. An address holds no secret.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.arrow import ArrowFSWrapper

from skinray.errors import SkinrayError, StorageError

T = TypeVar("T")
S3 = "s3://"
# A call that fails this often in a row, while the store answers each time, is the file's fault.
ATTEMPTS, PAUSE_S = 3, 0.5
# How long to wait for a store that does not answer: servers restart, networks come back.
PATIENCE_S = 120.0
LONGEST_PAUSE_S = 5.0
_AT_ONCE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def is_address(place: str) -> bool:
    """Return whether a text is an fsspec address and not a path."""
    return "://" in place or "::" in place


def without_password(address: str) -> str:
    """Return an address without the password that it may contain."""
    return re.sub(r"://([^/@:]*):[^/@]*@", r"://\1@", address)


def open_address(address: str, unfit: type[SkinrayError]) -> tuple[Any | None, str]:
    """Return the file system of an address (None: this machine's disks), and the path in it.

    Parameters
    ----------
    unfit : the error to raise if the address cannot be opened.
    """
    try:
        system, path = file_system(address)
    except (ValueError, ImportError, OSError) as error:
        raise unfit(
            f"{without_password(address)}: cannot be opened ({one_line(error)}); check the "
            "address, and install the fsspec package for its kind (gcsfs, adlfs, ...)"
        ) from None
    return (None if isinstance(system, fsspec.get_filesystem_class("file")) else system), path


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system behind an address, and the path in it.

    Raises
    ------
    ValueError, ImportError, OSError
        If the address cannot be opened.
    """
    if address.startswith(S3):
        path = address.removeprefix(S3)
        return _s3(path.partition("/")[0], os.getpid()), path
    system, path = url_to_fs(address)
    return system, str(path)


@lru_cache
def _s3(bucket: str, process: int) -> Any:
    """Return a client of a bucket; each process has its own, as clients do not survive a fork."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    elsewhere = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and elsewhere is None:
        region = resolve_s3_region(bucket)
    return ArrowFSWrapper(
        S3FileSystem(
            region=region,
            endpoint_override=elsewhere,
            connect_timeout=5,
            request_timeout=30,
            allow_delayed_open=True,  # one request for a small file, not three
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        ),
        skip_instance_cache=True,
    )


def steadily(call: Callable[[], T], answers: Callable[[], object], where: str) -> T:
    """Repeat a call that the network or the store may have broken; wait for a store that is away.

    Parameters
    ----------
    call : what to do; a missing file or a refused permission is raised at once.
    answers : asks the store for something that is always there; raises if the store is away.
    where : the store, for the message.

    Raises
    ------
    OSError
        What the call raised although the store itself answers: it is the file's fault.
    StorageError
        If the store stayed away for ``PATIENCE_S``.
    """
    until, pause = time.monotonic() + PATIENCE_S, PAUSE_S
    failed = 0
    while True:
        try:
            return call()
        except _AT_ONCE:
            raise
        except OSError as error:
            # Counted only if the store answers right afterwards: if it came back between the two
            # requests, the next call succeeds.
            failed = failed + 1 if _is_there(answers) else 0
            if failed >= ATTEMPTS:
                raise
            if time.monotonic() > until:
                raise StorageError(
                    f"{where}: did not answer for {PATIENCE_S:g} s ({one_line(error)}); fix the "
                    "store or the network to it, then continue with --resume"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _is_there(answers: Callable[[], object]) -> bool:
    try:
        answers()
    except FileNotFoundError:
        return True
    except OSError as error:
        return "ACCESS_DENIED" in str(error)  # a store that refuses is there
    return True


def one_line(error: Exception) -> str:
    """Return an error's message in one line."""
    return " ".join((str(error) or type(error).__name__).split())[:300]
