"""What a service records can be drawn, and recording is never what ends it."""

import asyncio
import json
import logging
import signal
from pathlib import Path

import pytest

from dromos.config import ConfigError
from dromos.events import Connected
from dromos.service.recording import Recording
from tests.service.processes import agent, process, world

CONNECTED = Connected(connection_id="c-1", session=1, at=1.0, link=1, gap=None)


@pytest.mark.slow  # a process, which is to live through a second sample
async def test_a_service_records_its_events_and_a_sample_each_second(tmp_path: Path):
    file = tmp_path / "run.jsonl"
    async with (
        world(echo=True) as (gateway, far),
        agent("Agent", gateway, far, DROMOS_RECORD=str(file)) as it,
    ):
        await it.until_it_says("received hello")
        async with asyncio.timeout(30):
            while file.read_text().count("bridge.sampled") < 2:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.05)
        it.signal(signal.SIGTERM)
        assert 0 == await it.end(), it.told

    records = [json.loads(line) for line in file.read_text().splitlines()]
    names = [record["event"] for record in records]
    samples = [record for record in records if record["event"] == "bridge.sampled"]
    assert "bridge.session_started" == next(name for name in names if name != "bridge.sampled")
    assert "bridge.session_ended" == names[-1]
    assert (1, 1) == (samples[-1]["received"], samples[-1]["sent"])


async def test_a_bridge_of_the_program_s_own_is_recorded_as_well(tmp_path: Path):
    file = tmp_path / "run.jsonl"
    async with world() as (gateway, far):
        code = (
            "import dromos\nfrom dromos.oauth import OAuthClient\n"
            "async def main(bridge):\n"
            f"    async with bridge.connect('c-1', {far.url!r}) as connection:\n"
            "        await connection.wait_open()\n"
            f"bridge = dromos.Bridge(OAuthClient({gateway.url!r}))\n"
            f"dromos.run(main, bridge=bridge, record={str(file)!r})\n"
        )
        async with process("-c", code) as it:
            assert 0 == await it.end(), it.told

    names = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert {"bridge.connected", "bridge.session_ended"} <= set(names)


def test_a_second_run_adds_to_what_the_first_one_has_recorded(tmp_path: Path):
    file = tmp_path / "run.jsonl"
    for _ in range(2):
        recording = Recording(str(file))
        recording.on_event(CONNECTED)
        recording.close()
        recording.on_event(CONNECTED)  # which is too late

    assert 2 == len(file.read_text().splitlines())


def test_a_line_that_a_crash_has_cut_off_does_not_take_the_next_one_with_it(tmp_path: Path):
    file = tmp_path / "run.jsonl"
    file.write_text('{"event": "bridge.session_st')
    recording = Recording(str(file))
    recording.on_event(CONNECTED)
    recording.close()

    _, whole = file.read_text().splitlines()
    assert "bridge.connected" == json.loads(whole)["event"]


def test_a_file_that_can_not_be_written_to_is_named_before_anything_begins(tmp_path: Path):
    with pytest.raises(ConfigError, match="can't be written to: No such file or directory"):
        Recording(str(tmp_path / "nowhere" / "run.jsonl"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full on demand")
def test_a_full_disk_ends_the_recording_with_one_warning(caplog: pytest.LogCaptureFixture):
    recording = Recording("/dev/full")
    with caplog.at_level(logging.WARNING):
        recording.on_event(CONNECTED)
        recording.on_event(CONNECTED)
        recording.close()

    assert ["the recording ends here, it can't be written to: No space left on device"] == [
        record.getMessage() for record in caplog.records
    ]
