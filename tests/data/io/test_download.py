"""Downloads from a server on this machine that misbehaves on demand, and archives that do."""

import errno
import hashlib
import http.client
import io
import os
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from carlt.data.io import download
from carlt.data.io.download import Download, fetch, obtain, unpack
from carlt.errors import CarltError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; ``server.cut`` holds after how many bytes each next answer breaks off."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if self.path == "/absent":
            return self.send_error(404)
        start = 0
        if (wanted := self.headers.get("Range")) and self.path != "/norange":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                return self.send_error(416)
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if self.path != "/nolength":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cut.pop(0) if server.cut else None
        self.wfile.write(body[:cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.cut, server.asked = [], []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole(server, tmp_path):
    seen = []
    fetch(f"{server.url}/file", tmp_path / "new/file", (DIGEST,), lambda there, total: seen.append((there, total)))
    assert (tmp_path / "new/file").read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["file"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_interrupted_goes_on_by_itself(server, tmp_path):
    server.cut = [300_000, 200_000]
    fetch(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_interrupted_for_good_goes_on_next_time(server, tmp_path):
    server.cut = [100_000, 100_000, 100_000]
    with pytest.raises(CarltError, match=r"the connection failed 3 times .*run the command again to continue"):
        fetch(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    assert left(tmp_path) == ["file.part"]
    fetch(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    assert server.asked[-1] == "bytes=300000-"
    assert left(tmp_path) == ["file"]


def test_a_complete_part_is_taken(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_cannot_continue(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/norange", tmp_path / "file", (DIGEST,))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_without_a_digest_nothing_is_continued(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"of another file")
    fetch(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "part"), [("/file", b""), ("/file", b"of another file"), ("/nolength", b"")])
def test_wrong_checksum(server, tmp_path, path, part):
    wrong = hashlib.sha256(b"expected").hexdigest()
    if part:
        (tmp_path / "file.part").write_bytes(part)
    with pytest.raises(CarltError, match=rf"not the expected file \(sha256: expected {wrong}, found .*discarded"):
        fetch(f"{server.url}{path}", tmp_path / "file", (wrong,))
    assert left(tmp_path) == []


def test_truncated_without_a_length_is_caught_by_the_digest(server, tmp_path):
    server.cut = [1000]
    with pytest.raises(CarltError, match="not the expected file"):
        fetch(f"{server.url}/nolength", tmp_path / "file", (DIGEST,))


def test_a_broken_network_is_no_broken_disk(server, tmp_path, monkeypatch):
    def unreachable(answer, *_):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(http.client.HTTPResponse, "read", unreachable)
    with pytest.raises(CarltError, match=r"the connection failed 3 times \(Network is unreachable\)"):
        fetch(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    assert len(server.asked) == download.ATTEMPTS


def test_not_found(server, tmp_path):
    with pytest.raises(CarltError, match=rf"/absent: the server answers 404 .* put it at {tmp_path}/file"):
        fetch(f"{server.url}/absent", tmp_path / "file", (DIGEST,))


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    with pytest.raises(CarltError, match="the connection failed 3 times"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file", (DIGEST,))


def test_full_disk_keeps_what_was_there(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(CarltError, match="cannot be written: No space left on device; make room"):
        fetch(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    assert left(tmp_path) == ["file.part"]


def test_unwritable_folder(server, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(CarltError, match=r"cannot be written: .*choose another data.root"):
        fetch(f"{server.url}/file", tmp_path / "taken/file", (DIGEST,))
    assert (tmp_path / "taken").read_text() == "a file where a folder should be"


def test_what_is_there_is_not_fetched(server, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    obtain(Download(f"{server.url}/file", tmp_path / "file", (DIGEST,)))
    assert server.asked == []
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_of_two_processes_one_fetches(server, tmp_path):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    wanted = Download(f"{server.url}/file", tmp_path / "file", (DIGEST,))
    command = [sys.executable, "-S", "-c", hold, str(tmp_path / "file.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(CarltError, match=rf"another process uses {wanted.target}; wait until it ends"):
            obtain(wanted)
        other.kill()
    assert server.asked == []
    obtain(wanted)
    assert left(tmp_path) == ["file"]


def tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"data"))
    return path


def zip_(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"data")
    return path


def test_unpacked_whole(tmp_path):
    obtain(Download("", zip_(tmp_path / "a.zip", "set/a/1", "set/2"), unpacked="set"))
    obtain(Download("", tar(tmp_path / "b.tar.gz", ("other/1", tarfile.REGTYPE, "")), unpacked="other"))
    assert left(tmp_path) == ["a.zip", "b.tar.gz", "other", "set"]
    assert (tmp_path / "set/a/1").read_bytes() == b"data"


TRAVERSAL = [
    ("../evil", tarfile.REGTYPE, ""),
    ("set/../../evil", tarfile.REGTYPE, ""),
    ("set/link", tarfile.SYMTYPE, "/etc/passwd"),
    ("set/link", tarfile.SYMTYPE, "../../evil"),
    ("set/pipe", tarfile.FIFOTYPE, ""),
]


@pytest.mark.parametrize("member", TRAVERSAL)
def test_tars_stay_in_their_folder(tmp_path, member):
    inner = tmp_path / "data"
    inner.mkdir()
    archive = tar(inner / "a.tar.gz", ("set/1", tarfile.REGTYPE, ""), member)
    with pytest.raises(CarltError, match=r"is unsafe .*nothing was unpacked"):
        unpack(archive, inner / "set")
    assert (left(tmp_path), left(inner)) == (["data"], ["a.tar.gz"])


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/evil", "set\\..\\..\\evil"])
def test_zips_stay_in_their_folder(tmp_path, name):
    inner = tmp_path / "data"
    inner.mkdir()
    with pytest.raises(CarltError, match=r"is unsafe .*nothing was unpacked"):
        unpack(zip_(inner / "a.zip", "set/1", name), inner / "set")
    assert (left(tmp_path), left(inner)) == (["data"], ["a.zip"])


@pytest.mark.parametrize(
    "make", [lambda path: tar(path, ("set/1", tarfile.REGTYPE, "")), lambda path: zip_(path, "set/1")]
)
def test_damaged_archives(tmp_path, make):
    path = make(tmp_path / "archive")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CarltError, match="is damaged"):
        unpack(path, tmp_path / "set")
    assert left(tmp_path) == ["archive"]


def test_a_damaged_compressed_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/1", os.urandom(64) * 8)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[40:60] = bytes(20)  # within the compressed stream
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(CarltError, match="is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "set")


def zip_header(path, offset, value):
    """A zip whose headers have ``value`` at ``offset`` of the local header; the central one has it 2 bytes later."""
    content = bytearray(zip_(path, "set/1").read_bytes())
    for mark, place in ((b"PK\3\4", offset), (b"PK\1\2", offset + 2)):
        start = content.index(mark) + place
        content[start : start + 2] = struct.pack("<H", value)
    path.write_bytes(content)


def damaged_stream(path, kind):
    """An archive whose compressed stream is overwritten in the middle."""
    noise = os.urandom(1000) * 100
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("set/1", noise)
    else:
        with tarfile.open(path, f"w:{kind}") as archive:
            info = tarfile.TarInfo("set/1")
            info.size = len(noise)
            archive.addfile(info, io.BytesIO(noise))
    content = bytearray(path.read_bytes())
    middle = 80 if kind == "zip" else len(content) // 2
    content[middle : middle + 60] = bytes(byte ^ 255 for byte in content[middle : middle + 60])
    path.write_bytes(content)


ODD_ARCHIVES = {
    "an encrypted zip": lambda path: zip_header(path, 6, 1),
    "a zip of unknown compression": lambda path: zip_header(path, 8, 97),
    "a damaged zip with LZMA": lambda path: damaged_stream(path, "zip"),
    "a damaged tar.bz2": lambda path: damaged_stream(path, "bz2"),
    "a damaged tar.xz": lambda path: damaged_stream(path, "xz"),
    "a tar with a link to a missing entry": lambda path: tar(path, ("set/1", tarfile.LNKTYPE, "set/missing")),
}


@pytest.mark.parametrize("make", ODD_ARCHIVES.values(), ids=ODD_ARCHIVES)
def test_archives_that_cannot_be_unpacked_are_one_message(tmp_path, make):
    make(tmp_path / "archive")
    with pytest.raises(CarltError, match=r"archive is damaged, encrypted or of an unknown kind \(.+\); remove it"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert left(tmp_path) == ["archive"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "archive")
    with pytest.raises(CarltError, match="archive is no regular file"):
        unpack(tmp_path / "archive", tmp_path / "set")


def test_an_archive_that_is_there_must_be_the_published_one(tmp_path):
    archive = zip_(tmp_path / "a.zip", "set/1")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(CarltError, match=rf"a.zip is not the official file .*found {digest}\); remove it .*official=f"):
        obtain(Download("", archive, (DIGEST,), unpacked="set"))
    assert left(tmp_path) == ["a.zip"]
    obtain(Download("", archive, (DIGEST, digest), unpacked="set"))
    obtain(Download("", zip_(tmp_path / "b.zip", "other/1"), (DIGEST,), unpacked="other", official=False))
    assert left(tmp_path) == ["a.zip", "b.zip", "other", "set"]


def test_wrong_archive(tmp_path):
    with pytest.raises(CarltError, match="does not hold a folder set/"):
        unpack(zip_(tmp_path / "a.zip", "other/1"), tmp_path / "set")


def test_an_archive_larger_than_the_disk(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 3})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CarltError, match=r"unpacks to 4 bytes, .* has 3 left; make room"):
        unpack(zip_(tmp_path / "a.zip", "set/1"), tmp_path / "set")
    assert os.listdir(tmp_path) == ["a.zip"]
