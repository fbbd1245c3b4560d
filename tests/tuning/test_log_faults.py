"""Nothing that was appended is lost: killed writers, several at once, damage, foreign files, no room, no permission."""

import contextlib
import ctypes
import os
import random
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
import time

import pytest
from forked import in_child
from tuning_records import WHOLE, make, several

from onnxkiln.errors import LogError
from onnxkiln.tuning import log_file
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.salvage import repair, salvage

WRITER = """
import sys
from tuning_records import make
from onnxkiln.tuning.log import TuningLog
name, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = TuningLog.open(path)
for number in range(count):
    log.append(make(machine=name, parameters={"number": number}))
    print(number, flush=True)
"""


def writer(name, path, count):
    search = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", WRITER, name, str(path), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": search})


def numbers(path, name):
    with TuningLog.open(path) as log:
        return [one.parameters["number"] for one in log.records({"machine": name})]


def test_a_writer_that_is_killed_loses_no_record_that_it_finished(tmp_path):
    path, luck = tmp_path / "log", random.Random(8)
    said, finished = {}, {}
    for life in range(20):
        name = f"life {life}"
        with writer(name, path, 1 << 30) as process:
            finished[name] = [int(process.stdout.readline()) for _ in range(luck.randrange(1, 20))]
            time.sleep(luck.random() * 0.005)
            process.kill()
            finished[name] += [int(line) for line in process.stdout.read().splitlines()]
        said[name] = numbers(path, name)
    for name, done in finished.items():
        assert done == list(range(len(done)))
        # The last one may have been finished without being said.
        assert said[name] in (done, [*done, len(done)])
        assert numbers(path, name) == said[name]


def test_two_writers_and_a_reader_at_once(tmp_path):
    path, count = tmp_path / "log", 300
    with writer("one", path, count) as one, writer("two", path, count) as two:
        one.stdout.readline()
        seen = []
        while one.poll() is None or two.poll() is None:
            with TuningLog.open(path, write=False) as log:
                seen.append(len(log))
    assert (one.returncode, two.returncode) == (0, 0)
    assert numbers(path, "one") == numbers(path, "two") == list(range(count))
    assert seen == sorted(seen) and len(set(seen)) > 1


def damaged_log(tmp_path, records):
    path = tmp_path / "log"
    with TuningLog.open(path) as log:
        log.extend(records)
    return path


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2, 0.5, 0.75, 0.999])
def test_a_truncated_log_is_refused_untouched_and_repaired(tmp_path, share):
    records = several(300)
    path = damaged_log(tmp_path, records)
    whole = path.read_bytes()
    kept = int(len(whole) * share)
    path.write_bytes(whole[:kept])
    with pytest.raises(LogError, match=r"damaged|is not a tuning log") as refused, TuningLog.open(path) as log:
        log.append(WHOLE)
    assert "repair" in refused.value.hint or "not a tuning log" in refused.value.message
    assert path.read_bytes() == whole[:kept]
    in_place = {one.digest for one in records if (place := whole.find(one.to_text().encode())) >= 0
                and place + len(one.to_text()) <= kept}  # fmt: skip
    if not in_place:
        return
    count, old = repair(path)
    assert old.read_bytes() == whole[:kept]
    with TuningLog.open(path) as log:
        log.append(WHOLE)
        got = {one.digest for one in log.records()} - {WHOLE.digest}
    assert got >= in_place and len(got) == count


def test_damage_in_the_middle_costs_the_records_that_lie_there(tmp_path):
    records = several(300)
    path = damaged_log(tmp_path, records)
    content = bytearray(path.read_bytes())
    middle = content.find(records[150].to_text().encode())
    content[middle : middle + 2000] = random.Random(1).randbytes(2000)
    path.write_bytes(content)
    found = {one.digest for one in salvage(path)}
    assert found <= {one.digest for one in records}
    assert 290 <= len(found) < 300


def test_an_altered_record_is_not_intact(tmp_path):
    path = damaged_log(tmp_path, [WHOLE, make(threads=2)])
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"threads":2,"cache"', b'"threads":3,"cache"'))
    assert salvage(path) == [WHOLE]


def test_an_altered_record_is_refused(tmp_path):
    path = damaged_log(tmp_path, [WHOLE])
    path.write_bytes(path.read_bytes().replace(b'"seconds":[0.002,', b'"seconds":[0.001,'))
    with TuningLog.open(path, write=False) as log, pytest.raises(LogError, match="altered") as refused:
        log.exact(WHOLE.workload, WHOLE.machine)
    assert f"log repair {path}" in refused.value.hint


def test_damage_of_any_kind_is_said_and_gives_no_wrong_record(tmp_path):
    luck, records = random.Random(7), several(60)
    known, whole = {one.digest for one in records}, damaged_log(tmp_path, records).read_bytes()
    for number in range(40):
        path, content = tmp_path / f"log {number}", bytearray(whole)
        for _ in range(luck.randrange(1, 10)):
            content[luck.choice([luck.randrange(200), luck.randrange(len(whole))])] = luck.randrange(256)
        path.write_bytes(content[: luck.choice([len(whole), luck.randrange(len(whole))])])
        with contextlib.suppress(LogError), TuningLog.open(path) as log:
            assert {one.digest for one in log.records()} <= known
            log.append(WHOLE)
        assert {one.digest for one in salvage(path)} <= {*known, WHOLE.digest}


def test_records_longer_than_a_page_are_salvaged(tmp_path):
    records = [make(trace="x" * 40_000, template="metaschedule", parameters={"number": n}) for n in range(5)]
    path = damaged_log(tmp_path, records)
    assert {one.digest for one in salvage(path)} == {one.digest for one in records}


def test_what_a_killed_writer_left_beside_the_log_is_salvaged_too(tmp_path):
    path = tmp_path / "log"
    in_child(lambda: TuningLog.open(path).extend(several(20)))
    assert path.with_name("log-wal").stat().st_size
    assert len(salvage(path)) == 20
    assert repair(path)[0] == 20
    assert not path.with_name("log-wal").exists()
    with TuningLog.open(path) as log:
        assert len(log) == 20


def test_a_log_in_use_is_not_repaired(tmp_path):
    path = tmp_path / "log"
    with writer("one", path, 1 << 30) as process:
        process.stdout.readline()
        with pytest.raises(LogError, match="in use"):
            repair(path)
        process.kill()


def foreign_database(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE record (id)")
        connection.commit()


def newer_log(path):
    TuningLog.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make_file", "words"),
    [
        (lambda path: path.write_text("some notes"), "no SQLite file"),
        (lambda path: path.write_bytes(b"\x7fELF" + bytes(5000)), "no SQLite file"),
        (lambda path: path.write_text(WHOLE.to_text() + "\n"), "no SQLite file"),
        (foreign_database, "another program"),
        (newer_log, "form 2"),
        (lambda path: path.mkdir(), "can't be read"),
    ],
)
@pytest.mark.parametrize("write", [True, False])
def test_foreign_files_are_refused_and_left_as_they_are(tmp_path, make_file, words, write):
    path = tmp_path / "log"
    make_file(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LogError, match=words) as refused:
        TuningLog.open(path, write=write)
    assert str(path) in refused.value.message and refused.value.hint
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log"]
    assert before is None or path.read_bytes() == before


def test_nothing_is_made_of_a_foreign_file(tmp_path):
    path = tmp_path / "notes"
    path.write_text("some notes")
    with pytest.raises(LogError, match="nothing of a tuning log"):
        repair(path)
    assert [one.name for one in tmp_path.iterdir()] == ["notes"]


def without_privileges():
    """The modes of files hold for root too from here on; the folders above stay open, whatever their modes."""
    if os.geteuid() == 0:
        version_3 = struct.pack("=Ii", 0x20080522, 0)
        if ctypes.CDLL(None, use_errno=True).capset(version_3, bytes(24)):
            raise OSError(ctypes.get_errno(), "capset failed")


@pytest.fixture
def closed_folder(tmp_path):
    """A folder with a log of one record that may be read and not written."""
    folder = tmp_path / "closed"
    folder.mkdir()
    with TuningLog.open(folder / "log") as log:
        log.append(WHOLE)
    os.chmod(folder / "log", 0o444)
    os.chmod(folder, 0o555)
    yield folder
    os.chmod(folder, 0o755)


def test_a_log_in_a_read_only_folder_is_read(closed_folder):
    def read():
        with TuningLog.open(closed_folder / "log", write=False) as log:
            return list(log.records())

    assert in_child(read, without_privileges) == [WHOLE]
    assert [one.name for one in closed_folder.iterdir()] == ["log"]


@pytest.mark.parametrize("name", ["log", "new", "folder/new"])
def test_a_read_only_folder_is_refused_for_writing(closed_folder, name):
    def write():
        try:
            with TuningLog.open(closed_folder / name) as log:
                log.append(WHOLE)
        except LogError as error:
            return str(error)

    said = in_child(write, without_privileges)
    assert str(closed_folder / name) in said and "--log" in said
    assert [one.name for one in closed_folder.iterdir()] == ["log"]


def fill(path):
    """Append until it fails: how many records were finished, and what was said."""
    with TuningLog.open(path) as log:
        for number in range(10_000):
            try:
                log.append(make(parameters={"number": number}))
            except LogError as error:
                return number, str(error)


def check_what_is_left(path, finished, said):
    assert str(path) in said and "are safe" in said
    with TuningLog.open(path) as log:
        assert [one.parameters["number"] for one in log.records()] == list(range(finished))
        log.append(WHOLE)


def test_a_file_that_may_not_grow_keeps_what_it_has(tmp_path):
    path = tmp_path / "log"
    TuningLog.open(path).close()

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    finished, said = in_child(lambda: fill(path), limit)
    assert finished > 10
    check_what_is_left(path, finished, said)


def test_a_full_disk_keeps_what_it_has(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        finished, said = fill(small / "log")
        assert finished > 10 and "no room" in said
        with TuningLog.open(small / "log", write=False) as log:
            assert len(log) == finished
        subprocess.run(["mount", "-o", "remount,size=4m", small], check=True)
        check_what_is_left(small / "log", finished, said)
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_writer_that_is_held_up_says_so(tmp_path, monkeypatch):
    path = tmp_path / "log"
    with TuningLog.open(path) as log:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(log_file, "BUSY_SECONDS", 0.1)
            with TuningLog.open(path) as hurried, pytest.raises(LogError, match="another process has held it"):
                hurried.append(WHOLE)
        log.append(WHOLE)
        assert len(log) == 1


def test_where_no_write_ahead_log_is_possible_another_mode_serves(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setattr(log_file, "file_system", lambda path: "nfs4")
    with TuningLog.open(path) as log:
        log.append(WHOLE)
        assert not path.with_name("log-wal").exists()
    with writer("one", path, 50) as one, writer("two", path, 50) as two:
        one.communicate()
        two.communicate()
    assert (one.returncode, two.returncode) == (0, 0)
    assert numbers(path, "one") == numbers(path, "two") == list(range(50))


def test_the_file_system_is_that_of_the_longest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw\nb {tmp_path}/net\\040work nfs4 rw\nc {tmp_path} xfs rw\n")
    assert log_file.file_system(tmp_path / "log", mounts) == "xfs"
    assert log_file.file_system(tmp_path / "net work" / "log", mounts) == "nfs4"
    assert log_file.file_system(tmp_path.parent / "log", mounts) == "ext4"
    assert log_file.file_system(tmp_path, tmp_path / "absent") == ""
