"""Whether a head asks for a token, tried on servers that answer, refuse, or are of another Ray."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from skinray.cluster.ray_internals import CLUSTER_ID, answers_strangers
from skinray.errors import ResourcesError


class Head(grpc.GenericRpcHandler):
    """Answers one question, or refuses it."""

    def __init__(self, question: str, refuses: bool) -> None:
        self.question, self.refuses = question, refuses

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != self.question:
            return None
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: Any) -> bytes:
        if self.refuses:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return b"the cluster's id"


@contextmanager
def head(question: str = CLUSTER_ID, *, refuses: bool = False) -> Iterator[str]:
    """Run such a server; yields its address."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=(Head(question, refuses),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def test_a_head_that_answers_without_a_token_is_open() -> None:
    with head() as address:
        assert answers_strangers(address)


def test_a_head_that_refuses_or_is_not_there_is_closed() -> None:
    with head(refuses=True) as address:
        assert not answers_strangers(address)
    assert not answers_strangers(address)


def test_a_ray_that_does_not_know_the_question_is_not_taken_for_closed() -> None:
    with (
        head("/ray.rpc.NodeInfoGcsService/Another") as address,
        pytest.raises(ResourcesError, match=r"cannot tell .* install Ray 2"),
    ):
        answers_strangers(address)
