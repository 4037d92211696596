"""The server of the tests keeps what tests rely on."""

import os
import urllib.request
from collections.abc import Callable

import nats
import pytest

from tests.support.nats_server import NatsServer, read_info


async def test_it_has_jetstream_and_our_limits(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    try:
        assert client.max_payload == 8 * 1024 * 1024
        account = await client.jetstream().account_info()
        assert account.streams == 0
    finally:
        await client.close()


async def test_a_killed_server_comes_back_on_its_port_and_store(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
    await client.jetstream().publish("kept.1", b"still here")
    await client.close()
    before = (nats_server.pid, nats_server.url)

    nats_server.kill()
    assert read_info(nats_server.port) is None
    nats_server.start()

    assert nats_server.pid != before[0]
    assert nats_server.url == before[1]
    client = await nats.connect(nats_server.url)
    kept = await client.jetstream().get_msg("KEPT", 1)
    await client.close()
    assert kept.data == b"still here"


def test_a_stopped_server_leaves_no_process(nats_server: NatsServer) -> None:
    pid = nats_server.pid
    nats_server.stop()
    nats_server.stop()  # whoever stops it within the test must not break the fixture's own stop
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_paused_server_can_still_be_stopped(nats_server: NatsServer) -> None:
    nats_server.pause()
    nats_server.stop()
    assert not nats_server.alive


def test_the_monitoring_address_answers(nats_server: NatsServer) -> None:
    with urllib.request.urlopen(f"{nats_server.monitoring}/healthz", timeout=5) as answer:
        assert answer.status == 200


def test_free_ports_differ(free_port: Callable[[], int]) -> None:
    assert free_port() != free_port()
