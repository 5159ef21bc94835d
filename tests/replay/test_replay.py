"""A replay on virtual time: its records, its settings and its rounds."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.errors import PinnerfsError
from pinnerfs.replay import Recording, Replay, load_capture, recording_of
from pinnerfs.report import read_text
from tests.replay.captures import capture, section
from tests.report.texts import detect, hex_pin, pin

# Released at 400 ms, 500 ms and 900 ms of the recording, which begins with the first pin.
PINS = (pin(500_000, 1), pin(500_000, 2), pin(400_000, 1))


def recorded(*parts: str, **files: str) -> Recording:
    """Return the recording of a capture: files of page_pinner, and text."""
    sections = [section(f"page_pinner/{name}", text) for name, text in files.items()]
    return recording_of(read_text(capture(*sections, *parts)))


def shown(replay: Replay, file: str | None = None) -> int:
    """Return the number of records that a file has now."""
    return len(list(replay.records(file)))


def test_all_is_there_at_the_start() -> None:
    """Without over, the files have everything at time 0, and nothing comes later."""
    replay = Replay(recorded(longterm_pinner="".join(PINS)))
    assert replay.cat() == "".join(PINS)
    assert (replay.now, replay.next_event()) == (0, None)
    replay.advance("1h")
    assert (replay.cat(), replay.now) == ("".join(PINS), 3600 * 10**6)


def test_over_spreads_the_releases() -> None:
    """They keep their distances in proportion: the first after 4/9 of the time, the last at its end."""
    replay = Replay(recorded(longterm_pinner="".join(PINS)), over="9s")
    came = []
    while (due := replay.next_event()) is not None:
        replay.advance_to(due - 1)
        before = shown(replay)
        replay.advance_to(due)
        came.append((due, shown(replay) - before))
    assert came == [(4_000_000, 1), (5_000_000, 1), (9_000_000, 1)]
    assert replay.cat() == "".join(PINS)


def test_loop_repeats_them() -> None:
    """Each round brings them again, newest first. Advancing in one step or in many is the same."""
    recording = recorded(longterm_pinner="".join(PINS))
    replay, steps = Replay(recording, over="9s", loop=True), Replay(recording, over="9s", loop=True)
    replay.advance("22s")
    for _ in range(220):
        steps.advance("100ms")
    assert replay.cat() == steps.cat() == PINS[2] + "".join(PINS * 2)
    assert replay.next_event() == steps.next_event() == 23_000_000
    assert replay.stats() == steps.stats() == {"longterm_records": 7, "records_overwritten": 0, "records_now": 7}


def test_a_long_loop_ends_at_once() -> None:
    """A ring holds 4096 records, so a century of rounds takes no longer than filling it."""
    replay = Replay(recorded(longterm_pinner="".join(PINS)), over="1us", loop=True)
    replay.advance_to(876_000 * 3600 * 10**6)
    rounds = 876_000 * 3600 * 10**6
    assert replay.stats() == {
        "longterm_records": 3 * rounds,
        "records_overwritten": 3 * rounds - 4096,
        "records_now": 4096,
    }
    assert replay.cat().startswith("".join(PINS * 2))


def test_the_recorded_threshold() -> None:
    """It starts with the recorded threshold; or with the default or less, if that is not in the capture."""
    assert Replay(recorded(longterm_pinner="".join(PINS), threshold="123456\n")).threshold == 123_456
    assert Replay(recorded(longterm_pinner="".join(PINS))).threshold == 300_000
    assert Replay(recorded(longterm_pinner=pin(5_000, 1))).threshold == 4_999
    assert Replay(recorded(longterm_pinner=pin(0, 1), threshold="-1\n")).threshold == -1
    recording = recorded(longterm_pinner="".join(PINS), threshold="450000\n")
    assert Replay(recording).cat() == "".join(PINS)
    assert recording.notes == (
        "the recorded threshold, 450000 us, is not below the shortest record: starting with 399999 us",
    )
    for text in (f"{1 << 64}", "x", ""):
        recording = recorded(longterm_pinner="", threshold=f"{text}\n")
        assert recording.threshold == 300_000
        assert recording.notes[-1:] == (
            f"the recorded threshold, '{text}', is no number of 64 bits: starting with 300000 us",
        )


def test_a_threshold_of_the_user() -> None:
    """Shorter pins are not recorded then. A kernel without a threshold refuses one."""
    assert Replay(recorded(longterm_pinner="".join(PINS)), threshold="450ms").cat() == "".join(PINS[:2])
    with pytest.raises(PinnerfsError, match=r"kernel android14-6\.1 has no threshold"):
        Replay(recorded(buffer=detect(5, 1)), threshold=5)


def test_a_threshold_below_the_recorded_one(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, whether it is the first one or a later one."""
    recording = recorded(longterm_pinner="".join(PINS), threshold="300000\n")
    with caplog.at_level(logging.WARNING):
        for threshold in (300_000, 299_999):
            replay = Replay(recording, threshold=threshold)
            assert replay.cat() == "".join(PINS)
        replay.threshold = 4
    assert [record.getMessage() for record in caplog.records] == [
        "the threshold of 299999 us is below that of the capture: it has no pins of 300000 us or less"
    ]


def test_a_write_of_the_threshold(caplog: pytest.LogCaptureFixture) -> None:
    """It clears, and only longer records come later. One below the capture's is told once."""
    replay = Replay(recorded(longterm_pinner="".join(PINS), threshold="300000\n"), over="9s", loop=True)
    replay.advance("9s")
    replay.threshold = 450_000
    assert replay.cat() == ""
    replay.advance("9s")
    assert replay.cat() == "".join(PINS[:2])
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        for threshold in (5, 4):
            replay.threshold = threshold
    assert [record.getMessage() for record in caplog.records] == [
        "the threshold of 5 us is below that of the capture: it has no pins of 300000 us or less"
    ]
    once = Replay(recorded(longterm_pinner="".join(PINS)))
    once.threshold = 300_000
    once.advance("1h")
    assert once.cat() == ""


FAILURES = (detect(3_000_000, 3), detect(2_000_000, 2), detect(1_000_000, 1))


def test_the_switches_of_failures() -> None:
    """While tracking is off no failure comes. A write of buffer_size empties the ring, and its size limits it."""
    recording = recorded(buffer="".join(FAILURES), failure_tracking="0\n", buffer_size="2\n")
    assert recording.notes[-1] == "buffer: 1 oldest record left out: the ring has 2 slots"
    replay = Replay(recording, over="2s", loop=True)
    assert (replay.tracking, replay.buffer_size) == (False, 2)
    replay.advance("2s")
    assert replay.cat() == ""
    replay.tracking = True
    replay.advance("2s")
    assert replay.cat() == "".join(FAILURES[:2])
    replay.buffer_size = 3
    assert replay.cat() == ""
    replay.advance("4s")
    assert replay.cat() == "".join((FAILURES * 2)[:2]) + FAILURES[0]
    with pytest.raises(OSError, match="the kernel allocates at most") as error:
        replay.buffer_size = 38_347_923
    assert error.value.errno == errno.ENOMEM
    assert Replay(recorded(buffer="".join(FAILURES), buffer_size="38347923\n")).buffer_size == 4096
    assert Replay(recorded(buffer=FAILURES[0] * 5000)).buffer_size == 5000


def test_both_rings_have_their_own_rounds() -> None:
    """Nothing tells when the records of one file came relative to those of the other, so each fills the time."""
    text = hex_pin(400_000, 1)
    failure = "Page pinned ts [    8.239262]\n" + text.partition("\n")[2]
    replay = Replay(recorded(longterm_pinner=text, alloc_contig_failed=failure), over="1s")
    assert (shown(replay), shown(replay, "alloc_contig_failed")) == (0, 0)
    replay.advance("1s")
    assert (replay.cat(), replay.cat("alloc_contig_failed")) == (text, failure)
    with pytest.raises(PinnerfsError, match="has no record file 'buffer'"):
        replay.cat("buffer")


def test_one_scale_for_both_files_would_hide_the_pins() -> None:
    """Failures have boot times, here two hours apart, while pins have only durations: they still come one by one."""
    pins = hex_pin(500_000, 1) + hex_pin(500_000, 1)
    form = "Page pinned ts [{:5}.000000]\n" + hex_pin(1, 1).partition("\n")[2]
    replay = Replay(recorded(longterm_pinner=pins, alloc_contig_failed=form.format(7209) + form.format(9)), over="60s")
    came = []
    while (due := replay.next_event()) is not None:
        replay.advance_to(due)
        came.append((due, shown(replay), shown(replay, "alloc_contig_failed")))
    assert came == [(1, 0, 1), (30_000_000, 1, 1), (60_000_000, 2, 2)]


def test_wrong_arguments() -> None:
    """They are refused as those of a simulation are."""
    recording = recorded(longterm_pinner="".join(PINS))
    for over in (0, -1, "0s", 1 << 70):
        with pytest.raises(PinnerfsError, match=r"over = .*: wanted a time of more than 0 and at most 292 years"):
            Replay(recording, over=over)
    with pytest.raises(PinnerfsError, match="over = '60' must be a number and a unit"):
        Replay(recording, over="60")
    with pytest.raises(PinnerfsError, match="loop: wanted over as well"):
        Replay(recording, loop=True)
    with pytest.raises(PinnerfsError, match="boot time ends at"):
        Replay(recording).advance_to(1 << 70)
    with pytest.raises(PinnerfsError, match="a replay has no tasks"):
        Replay(recording).do("pin task=a")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A record and a file come out with the bytes that they had, whatever the encoding."""
    frame = pin(400_000, 1).replace("get_vaddr_frames", "get_\N{LATIN SMALL LETTER E WITH ACUTE}").encode()
    data = frame + pin(400_000, 2).encode().replace(b"vb2_core", b"\xff\xfe\x80")
    name = section("ion/h\N{LATIN SMALL LETTER E WITH ACUTE}ap", "").encode()
    (tmp_path / "a").write_bytes(section("page_pinner/longterm_pinner", "").encode() + data + name + b"\xff\n")
    replay = pinnerfs.Replay(load_capture(tmp_path / "a"))
    assert replay.raw() == data
    assert replay.recording.files == {"ion/h\xc3\xa9ap": b"\xff\n"}
