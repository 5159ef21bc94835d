"""The scenarios of the gallery, and the reference of their format."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import pinnerfs
from pinnerfs.check import check_expectations
from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.scenario.limits import LIMITS, check_work
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario
from tests.mount.support import DEADLINE, environment

DIRECTORY = pinnerfs.gallery()["camera-stall"].parent  # of what is tested: a checkout, or what was installed
REFERENCE = (DIRECTORY / "README.md").read_text()

# What longterm_pinner holds after a minute. numpy promises a seed's stream for one release only: these are 2.4.6's.
GOLDEN = {
    "blind-spot": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "camera-stall": "e114384d3b1c99c7047b3e1bf34d8b87249812aa6ee1464b1145f245b04d0d6e",
    "cma-retries": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "core-dump-slow-disk": "2b6f04a189fa4c25a17bef1d7397bb99180bbc95f1f838db6ac5300064eeff7c",
    "every-kernel": "0b20af7113b29065f01df0eb9e07289386efb082eb87e8ef412ee092855cbe68",
    "execve-storm": "76e8e5284de67604151f5cc045180d11f0be87a4c0a38103606d7bbcba493054",
    "faceunlock-fails": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "faceunlock-fixed": "1fe5e76433de4c4091f625fafd417c28fdcf163397d48698831090769590756b",
    "flaky-reads": "c38143a00dd0032056214a21162dbc35aed3338f811ba311bf212a3b1d3a823d",
    "fuse-daemon-hang": "d35fb612061a1db9fd082abc3c1446c45b561dc228c2ca08d78101852eaecf17",
    "futex-storm": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "gpu-put-page": "652dfb84b7b0a6807481c8ada79779a5f11f48a70061012c39b6710cbeb8eb81",
    "huge-pages": "6b86a1e74c81edaa86e865de179ad94b2710f760477ebb155bb3f9a68f72e7cb",
    "io-uring-buffers": "b0e654e65aadbbff71d9615d0c41a1de5dd5a42770a2fe3848e199b48487a156",
    "kgsl-import": "db148c38929be42dd9362249e6c8c5eeb3768545ad121b7f7cee0c0d66b87328",
    "no-page-pinner": "65f622c935d8602f0027c157c387a47c9710fa597b0c2572542c9e838bc40e4b",
    "quiet-device": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "rdma-region": "92ba3a58e87001db938e85ec8ac86b69446e4b854d7014a3026b20b3d912f52e",
    "ring-overflow": "3d78188414b3d830f244e0c169d880a28f59e97e86062479a4db393d955ebd60",
    "slow-direct-io": "cf1ca46ed1fa2b6eca3c2cce931be776787eee67e9e59775a5afc859f217b14d",
    "slow-reads": "4bde3bfd995dff810c2fe01bfd88592e040a29fb6c6a8df39ec432601789b4c1",
    "threshold-edges": "9141362b70adac374ef3a33796b175cd560ce4dc6fdcde37d15cafa3040b73a3",
    "vfio-guest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "vmsplice-undrained": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}


def _after_a_minute(name: str, threshold: int | None = None) -> pinnerfs.Simulation:
    simulation = pinnerfs.Simulation(pinnerfs.load(name), threshold=threshold)
    simulation.advance("60s")
    return simulation


def _blamed(record: Record, symbol: str) -> bool:
    return any(frame.startswith(f"{symbol}+") for frame in record.stack)


def test_the_gallery_is_what_the_directory_holds() -> None:
    """Every scenario has the name of its file, fits on a page, and begins with a comment on what to look for."""
    assert sorted(pinnerfs.gallery()) == sorted(GOLDEN)
    for name, path in pinnerfs.gallery().items():
        _schema, *lines = path.read_text().splitlines()
        assert pinnerfs.load(name).name == name
        assert len(lines) <= 100 and max(map(len, lines)) <= 120
        comment = lines[: lines.index("")]
        assert all(line.startswith("#") for line in comment)
        assert any(line.startswith("# Look for: ") for line in comment)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_seed_gives_the_same_bytes(name: str) -> None:
    """A minute of a scenario with its own seed gives the recorded bytes."""
    text = _after_a_minute(name).cat()
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name], (
        f"recorded with numpy 2.4.6, this is {np.__version__}"
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_expectations_hold(name: str) -> None:
    """Every scenario of the gallery has expectations, and all of them are met."""
    results = check_expectations(pinnerfs.load(name)).results
    assert results
    assert [result for result in results if not result.met] == []


@pytest.mark.parametrize("name", sorted({*GOLDEN} - {"vmsplice-undrained"}))
def test_expectations_would_fail_if_nothing_happened(name: str) -> None:
    """An idle device meets no scenario's expectations, except those of a scenario that never has a record."""
    idle = msgspec.structs.replace(pinnerfs.load(name), task=[])
    assert not all(result.met for result in check_expectations(idle).results)


def test_quiet_device() -> None:
    """There is no record at the default threshold, and only mem_rw's at a lower one that is written later."""
    simulation = _after_a_minute("quiet-device")
    assert simulation.threshold == 300_000
    assert simulation.cat() == ""
    simulation.threshold = 1000
    simulation.advance("60s")
    records = list(simulation.records())
    assert records
    assert all(_blamed(record, "mem_rw") and 1000 < (record.ts or 0) <= 20_000 for record in records)


def test_quiet_device_has_several_users() -> None:
    """With every release recorded, three tasks have records, but O_DIRECT has none and its pins keep their marks."""
    simulation = _after_a_minute("quiet-device", threshold=-1)
    records = list(simulation.records())
    for symbol in ("copy_strings", "get_futex_key", "mem_rw"):
        assert any(_blamed(record, symbol) for record in records)
    assert not any(_blamed(record, "do_blockdev_direct_IO") for record in records)
    assert simulation.stats()["pinned_now"] > 1000


def test_camera_stall() -> None:
    """All records are the camera's, in CMA; some are longer than a second, most are not."""
    records = list(_after_a_minute("camera-stall").records())
    assert all(_blamed(record, "vb2_dma_sg_get_userptr") for record in records)
    assert {record.migratetype for record in records} == {Migratetype.CMA}
    longest = [record for record in records if (record.ts or 0) > 1_000_000]
    assert 0 < len(longest) < len(records) / 2


@pytest.mark.parametrize("threshold", [500_000, 1_000_000])
def test_camera_stall_fills_again(threshold: int) -> None:
    """A threshold written after a minute empties the file, and all records of the next minute are above it."""
    simulation = _after_a_minute("camera-stall")
    simulation.threshold = threshold
    assert simulation.cat() == ""
    simulation.advance("60s")
    times = [record.ts or 0 for record in simulation.records()]
    assert times and min(times) > threshold


def test_gpu_put_page() -> None:
    """All records have the GPU's stack, count 2, and the time from the GPU's pin to the app's release."""
    records = list(_after_a_minute("gpu-put-page").records())
    assert records
    assert all(_blamed(record, "kbase_jd_user_buf_pin_pages") for record in records)
    assert {(record.ts, record.count) for record in records} == {(700_000, 2)}


def test_slow_direct_io() -> None:
    """The dump has records of its own pins with count 1; O_DIRECT has some of the dump's, none of its buffers."""
    simulation = _after_a_minute("slow-direct-io")
    records = list(simulation.records())
    dump = [record for record in records if _blamed(record, "get_dump_page")]
    direct = [record for record in records if _blamed(record, "do_blockdev_direct_IO")]
    assert dump and direct and len(dump) + len(direct) == len(records)
    assert all(record.count == 1 for record in dump)
    assert all(record.count >= 2 for record in direct)
    buffers = simulation.memory.regions["buffers"]
    assert all(record.pfn >= buffers.start + buffers.frames for record in records)
    assert simulation.stats()["pinned_now"] > 1000


def test_ring_overflow() -> None:
    """Twelve long pins of huge pages make 512 records each, fill the ring, and overwrite its oldest records."""
    simulation = _after_a_minute("ring-overflow")
    records = list(simulation.records())
    assert len(records) == 4096
    assert simulation.stats()["longterm_records"] == 12 * 512
    assert simulation.stats()["records_overwritten"] == 12 * 512 - 4096
    assert len({record.pfn for record in records}) == 4096 / 512
    assert simulation.cat().count("|head|") == 4096


def test_threshold_edges() -> None:
    """One of three pins is longer than the threshold, by one microsecond."""
    simulation = _after_a_minute("threshold-edges")
    assert [record.ts for record in simulation.records()] == [300_001]
    assert simulation.stats()["pins"] == 3


def test_threshold_edges_with_a_lower_threshold() -> None:
    """The pins were held one microsecond below, at and above the default threshold."""
    records = _after_a_minute("threshold-edges", threshold=299_998).records()
    assert [record.ts for record in records] == [300_001, 300_000, 299_999]


def test_execve_storm() -> None:
    """At a low threshold the profiler's record is there at first, and is then overwritten by those of the programs."""
    simulation = pinnerfs.Simulation(pinnerfs.load("execve-storm"), threshold=10)
    simulation.advance("6s")
    assert sum(_blamed(record, "process_vm_rw_core") for record in simulation.records()) == 1
    simulation.advance("24s")
    assert not any(_blamed(record, "process_vm_rw_core") for record in simulation.records())


def test_futex_storm() -> None:
    """The waits pin CMA pages thousands of times per second."""
    simulation = _after_a_minute("futex-storm", threshold=0)
    assert {record.migratetype for record in simulation.records()} == {Migratetype.CMA}
    assert simulation.stats()["pins"] > 200_000


def test_core_dump_slow_disk() -> None:
    """4006 pages are dumped, and the stacks have no system call."""
    simulation = _after_a_minute("core-dump-slow-disk")
    records = list(simulation.records())
    assert not any(frame.startswith("__arm64_sys_") for record in records for frame in record.stack)
    assert all(record.stack[-1].startswith("work_pending+") for record in records)
    assert simulation.stats()["pins"] == 4006
    assert simulation.stats()["pinned_now"] == 0


def test_fuse_daemon_hang() -> None:
    """Every record is the daemon's; its callers pinned more pages, and their marks stay."""
    simulation = _after_a_minute("fuse-daemon-hang")
    records = list(simulation.records())
    assert records and all(_blamed(record, "fuse_copy_fill") for record in records)
    assert simulation.stats()["pinned_now"] > 10_000


def test_vmsplice_undrained() -> None:
    """Twenty pipes hold sixteen CMA pages each, and there is no record."""
    simulation = _after_a_minute("vmsplice-undrained", threshold=-1)
    assert simulation.cat() == ""
    assert simulation.stats()["pinned_now_in_cma"] == 320


def test_kgsl_import() -> None:
    """All records are KGSL's, with count 2."""
    records = list(_after_a_minute("kgsl-import").records())
    assert records and all(_blamed(record, "kgsl_ioctl_gpuobj_import") for record in records)
    assert {record.count for record in records} == {2}


def test_rdma_region() -> None:
    """Each page of a region is recorded with its own PFN."""
    simulation = pinnerfs.Simulation(pinnerfs.load("rdma-region"))
    simulation.advance("35s")
    assert len({record.pfn for record in simulation.records()}) == 2048


def test_vfio_guest() -> None:
    """A guest's four huge pages are recorded after an hour, but not by a kernel that does not track FOLL_PIN."""
    found = []
    for kernel in ("introduced", "android12-5.10-early"):
        simulation = pinnerfs.Simulation(pinnerfs.load("vfio-guest"), kernel=kernel)
        simulation.advance("61min")
        found.append([record.pfn for record in simulation.records()])
    assert len(found[0]) == 2048 and len({*found[0]}) == 4
    assert found[1] == []


def test_io_uring_buffers() -> None:
    """The server's pages are recorded; its sister's, as many, are not."""
    simulation = _after_a_minute("io-uring-buffers")
    sister = simulation.memory.regions["sister"]
    assert all(record.pfn < sister.start for record in simulation.records())
    assert simulation.stats()["pinned_now"] == 128  # the server has just begun its fourth life


def test_huge_pages() -> None:
    """The socket's 512 records are of one page; the debugger's thirty records are of thirty pages."""
    records = list(_after_a_minute("huge-pages").records())
    socket = [record for record in records if _blamed(record, "xdp_umem_create")]
    debugger = [record for record in records if _blamed(record, "mem_rw")]
    assert (len(socket), len({record.pfn for record in socket})) == (512, 1)
    assert (len(debugger), len({record.pfn for record in debugger})) == (30, 30)
    assert all(record.flags >> 16 & 1 for record in socket)
    assert not any(record.flags >> 16 & 1 for record in debugger)


def test_blind_spot() -> None:
    """At the lowest threshold only the debugger has records, and the pipe leaves no marks."""
    simulation = _after_a_minute("blind-spot", threshold=-1)
    records = list(simulation.records())
    assert records and all(_blamed(record, "mem_rw") for record in records)
    assert simulation.stats()["pinned_now"] == 0
    assert simulation.stats()["pins"] == len(records)


def _tables(type_: msgspec.inspect.Type, path: str = "") -> Iterator[tuple[str, msgspec.inspect.StructType]]:
    """Yield every table of the format with its dotted name; the name of a distribution is its `dist`."""
    match type_:
        case msgspec.inspect.StructType():
            place = path if type_.tag is None else f"dist {type_.tag}"
            yield place, type_
            for field in type_.fields:
                yield from _tables(field.type, f"{path}.{field.encode_name}".lstrip("."))
        case msgspec.inspect.UnionType():
            for one in type_.types:
                yield from _tables(one, path)
        case msgspec.inspect.ListType():
            yield from _tables(type_.item_type, path)
        case msgspec.inspect.DictType():
            yield from _tables(type_.value_type, path)


TABLES = dict(_tables(msgspec.inspect.type_info(Scenario)))


def _documented_defaults() -> dict[str, dict[str, str]]:
    """Return what the reference's tables say: for each table of the format, its keys and their defaults."""
    found = {}
    for section in re.split(r"^## ", REFERENCE, flags=re.MULTILINE)[1:]:
        rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, re.MULTILINE))
        if "| key | type | default | meaning |" in section:
            heading = section.splitlines()[0]
            found["" if heading == "The scenario" else heading.strip("`")] = rows
    return found


def test_the_reference_has_every_key() -> None:
    """The reference explains each key of each table, and no others."""
    documented = {place: set(rows) for place, rows in _documented_defaults().items()}
    assert documented == {
        place: {field.encode_name for field in table.fields} for place, table in TABLES.items() if table.tag is None
    }


@pytest.mark.parametrize("place", [place for place, table in TABLES.items() if table.tag is None])
def test_the_reference_has_every_default(place: str) -> None:
    """The reference marks required keys, and its defaults are those of the schema."""
    documented = _documented_defaults()[place]
    for field in TABLES[place].fields:
        shown = documented[field.encode_name]
        assert field.required == (shown == "required"), field.encode_name
        if isinstance(field.default, str | int | float):
            assert tomllib.loads(f"value = {shown.strip('`')}")["value"] == field.default, field.encode_name


def test_the_reference_has_every_distribution() -> None:
    """The reference names each distribution with its keys, and no others."""
    (table,) = re.findall(r"^\| `dist` \| keys \|.*?\n\n", REFERENCE, re.DOTALL | re.MULTILINE)
    rows = re.findall(r'^\| `"(\w+)"` \| (.*?) \|', table, re.MULTILINE)
    documented = {f"dist {name}": set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}
    assert documented == {
        place: {field.encode_name for field in table.fields} for place, table in TABLES.items() if table.tag is not None
    }


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", REFERENCE, re.DOTALL | re.MULTILINE)


def _example() -> str:
    """Return the scenario that the reference's first block writes."""
    (text,) = re.findall(r"<<'TOML'\n(.*?)^TOML$", _blocks("sh")[0], re.DOTALL | re.MULTILINE)
    return str(text)


def test_the_commands_of_the_reference(tmp_path: Path) -> None:
    """Pasted into a shell in an empty directory, the reference's commands write and check a scenario."""
    program = f'pinnerfs() {{ "{sys.executable}" -m pinnerfs "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-ec", program + "\n".join(_blocks("sh"))],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *checked, count, contiguous = done.stdout.splitlines()
    assert [line.startswith("./two-readers.toml: ") for line in checked] == [True] * 3
    assert int(count) >= 2
    assert f"{contiguous}\n" in _blocks("text")


def test_the_errors_of_the_reference() -> None:
    """The reference shows errors as they are printed."""
    mistake, _, year = _blocks("text")
    with pytest.raises(pinnerfs.PinnerfsError) as refused:
        pinnerfs.parse(_example().replace('hold = "50us"', 'hld = "50us"'), "./two-readers.toml")
    assert mistake == f"Error: {refused.value}\n"
    with pytest.raises(pinnerfs.PinnerfsError) as refused:
        check_work(pinnerfs.load("camera-stall"), "camera-stall", [parse_time("at", "8760h")], LIMITS)
    assert year == f"Error: {refused.value}\n"


def test_the_fragments_of_the_reference() -> None:
    """The reference's TOML blocks can be added to its example."""
    fragments = _blocks("toml")
    assert fragments
    for fragment in fragments:
        simulation = pinnerfs.Simulation(pinnerfs.parse(_example() + fragment))
        simulation.advance("60s")
        assert {record.pfn for record in simulation.records()} >= {0x80400, 0x80401, 0x80402, 0x80403}


def test_the_languages_of_the_reference() -> None:
    """Each block names its language, and all of these languages are tested."""
    assert set(re.findall(r"^```(.+)$", REFERENCE, re.MULTILINE)) == {"sh", "text", "toml"}
    assert len(re.findall(r"^```", REFERENCE, re.MULTILINE)) == 2 * sum(map(len, map(_blocks, ("sh", "text", "toml"))))
