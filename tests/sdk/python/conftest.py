"""The gateways that the tests call: started by tests/it/sdk.rs, found in the environment.

KEYWAY_TCP_URL       a provider for each dialect, whose upstream is `keyway mock` over TCP
KEYWAY_EMBEDDED_URL  provider `mock`, inside the gateway's process
KEYWAY_PROJECT_URL   as TCP, behind projects; KEYWAY_PROJECT_KEY opens it
KEYWAY_MOCK_URL      `keyway mock` itself, for what it saw
"""

import json
import os
import time
import urllib.request
from dataclasses import dataclass

import pytest
from openai import OpenAI


@dataclass(frozen=True)
class Gateway:
    url: str
    # Put before a model's name: the provider that serves it.
    provider: str

    def model(self, name: str) -> str:
        return f"{self.provider}/{name}"

    def client(self, **options) -> OpenAI:
        options = {"api_key": "sk-of-the-caller", "max_retries": 0, "timeout": 20.0} | options
        return OpenAI(base_url=f"{self.url}/v1", **options)


TCP = Gateway(os.environ["KEYWAY_TCP_URL"], "openai")
EMBEDDED = Gateway(os.environ["KEYWAY_EMBEDDED_URL"], "mock")


class Mock:
    """What the mock upstream saw."""

    url = os.environ["KEYWAY_MOCK_URL"]

    def get(self, path: str):
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)

    def open(self) -> int:
        return self.get("/__mock/open")["open"]

    def requests(self, model: str) -> list:
        return [seen for seen in self.get("/__mock/requests")["requests"] if seen["model"] == model]

    def wait_open(self, count: int, seconds: float) -> float:
        """Waits until `count` streams are open; returns the seconds it took."""
        started = time.monotonic()
        while (now := self.open()) != count:
            waited = time.monotonic() - started
            assert waited < seconds, f"{now} streams open at the upstream after {waited:.2f} s, not {count}"
            time.sleep(0.01)
        return time.monotonic() - started


@pytest.fixture(params=[TCP, EMBEDDED], ids=["tcp", "embedded"])
def gateway(request) -> Gateway:
    return request.param


@pytest.fixture
def tcp() -> Gateway:
    return TCP


@pytest.fixture
def client(gateway):
    with gateway.client() as client:
        yield client


@pytest.fixture
def mock() -> Mock:
    return Mock()
