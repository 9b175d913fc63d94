"""Where PyTorch is taken from: an index that does not answer costs seconds and is named."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tools import torch_index
from tools.torch_index import answers, words

TORCH = "torch==1.0"


class Index(BaseHTTPRequestHandler):
    """Knows torch alone."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/cpu/torch/" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def index() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/cpu"
        server.shutdown()
        thread.join()


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux without a GPU, and a proxy that loopback does not need."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(torch_index, "has_gpu", lambda: False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.usefixtures("linux")
def test_without_a_gpu_the_cpu_build_is_taken_where_its_index_answers(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words("auto", index, TORCH) == ["--extra-index-url", index, TORCH]
    assert words("cpu", index, TORCH) == ["--extra-index-url", index, f"{TORCH}+cpu"]
    assert words("default", index, TORCH) == [TORCH]
    monkeypatch.setattr(torch_index, "has_gpu", lambda: True)
    assert words("auto", index, TORCH) == [TORCH]


@pytest.mark.usefixtures("linux")
def test_an_index_without_torch_is_named(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words("auto", f"{index}/none", TORCH) == [TORCH]
    assert words("cpu", f"{index}/none", TORCH) == [f"{TORCH}+cpu"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith(f"torch: {index}/none does not answer") for line in said)


@pytest.mark.usefixtures("linux")
def test_an_index_that_accepts_and_stays_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}", patience_s=0.5)


def test_a_choice_that_there_is_not_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"TORCH: got 'gpu', must be one of auto, cpu, default"):
        words("gpu", "", TORCH)
