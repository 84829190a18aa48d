"""What Prometheus reads from the service: skinray's own metrics, of all nodes, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from skinray.cluster.serve.metrics import RayMeter, merged
from skinray.service.engine import NotReadyError

PAGE = """\
# HELP ray_node_mem_total Memory
# TYPE ray_node_mem_total gauge
ray_node_mem_total{ip="1"} 7.0
# HELP ray_skinray_count crossings per image
# TYPE ray_skinray_count histogram
ray_skinray_count_bucket{le="0.5",node="NODE"} 1.0
ray_skinray_count_bucket{le="+Inf",node="NODE"} 2.0
ray_skinray_count_sum{node="NODE"} 9.0
ray_skinray_count_count{node="NODE"} 2.0
# HELP ray_skinray_idle nothing yet
# TYPE ray_skinray_idle gauge
"""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """One node of Ray whose metrics port gives the page."""

    class Port(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Port)
    Thread(target=server.serve_forever, daemon=True).start()
    found = {
        "Alive": True,
        "NodeManagerAddress": "127.0.0.1",
        "MetricsExportPort": server.server_port,
    }
    gone = {"Alive": False, "NodeManagerAddress": "127.0.0.1", "MetricsExportPort": 1}
    monkeypatch.setattr(ray, "nodes", lambda: [gone, found])
    yield found
    server.shutdown()


def test_nodes_are_joined_and_strange_metrics_left_out() -> None:
    text = merged([PAGE.replace("NODE", "a"), PAGE.replace("NODE", "b")])
    (family,) = text_string_to_metric_families(text)
    assert (family.name, family.type) == ("ray_skinray_count", "histogram")
    assert len(family.samples) == 8
    assert {sample.labels["node"] for sample in family.samples} == {"a", "b"}
    assert merged([]) == ""


def test_the_meter_reads_every_living_node(
    node: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # a hospital's; not for this machine
    meter = RayMeter.__new__(RayMeter)
    assert "ray_skinray_count_sum" in asyncio.run(meter.exposition())
    node["MetricsExportPort"] = 1
    with pytest.raises(NotReadyError, match="metrics cannot be read"):
        asyncio.run(meter.exposition())
