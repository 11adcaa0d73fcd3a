"""Fetch files and unpack archives: resumable, verified, and never leaving half a result in the place of a whole one."""

import errno
import http.client
import math
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from carlt.data.facts import check_digest
from carlt.errors import CarltError, first_line
from carlt.runs.locks import exclusive_lock
from carlt.runs.paths import check_file, file_digest

PIECE = 1 << 18  # bytes
TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 3
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and, if the server gives it, their total."""


@dataclass(frozen=True)
class Download:
    """A file to fetch from ``url`` to ``target``; ``sha256`` are the accepted digests, none if none is published.

    ``unpacked`` is the folder that the archive holds, if it is to be unpacked beside it; with ``official`` an archive
    that is there already must be the published one.
    """

    url: str
    target: Path
    sha256: tuple[str, ...] = ()
    unpacked: str | None = None
    official: bool = True

    @property
    def result(self) -> Path:
        """The file or folder that exists afterwards."""
        return self.target.parent / self.unpacked if self.unpacked else self.target


def obtain(download: Download, progress: Progress = lambda there, total: None) -> None:
    """Fetch and unpack the missing parts.

    Raises:
        CarltError: see :func:`fetch` and :func:`unpack`; the archive that is there is not the published one; or another
            process fetches it.
    """
    if download.result.exists():
        return
    try:
        download.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _cannot_write(error, download.target)
    # Two processes would append to the same part.
    with exclusive_lock(download.target.with_name(f"{download.target.name}.lock"), download.target):
        _obtain(download, progress)


def _obtain(download: Download, progress: Progress) -> None:
    if download.target.exists():
        if download.official and download.sha256:
            check_digest(download.target, download.sha256)
    else:
        fetch(download.url, download.target, download.sha256, progress)
    if download.unpacked:
        unpack(download.target, download.result)


def fetch(url: str, target: Path, sha256: tuple[str, ...] = (), progress: Progress = lambda there, total: None) -> None:
    """Download ``url`` to ``target``, by way of ``target.part``, which a later call continues.

    A partial file is continued only if its digest is published, because the digest proves that both parts fit.

    Raises:
        CarltError: the server refuses, the connection ends too often, the content does not match ``sha256``, or the
            disk is full or not writable. ``target`` then does not exist; a part that can be continued is kept.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not sha256:
            part.unlink(missing_ok=True)
        _transfer_patiently(url, part, target, progress)
        if sha256 and (found := file_digest(part)) not in sha256:
            part.unlink()
            raise CarltError(
                f"{url} is not the expected file (sha256: expected {' or '.join(sha256)}, found {found}); it was "
                f"discarded. Try again, or get the file elsewhere and put it at {target}"
            )
        os.replace(part, target)
    except OSError as error:
        _cannot_write(error, target)


def _transfer_patiently(url: str, part: Path, target: Path, progress: Progress) -> None:
    """Make several attempts; each continues where the last one stopped."""
    for attempt in range(ATTEMPTS):
        try:
            return _transfer(url, part, progress)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing is left to send: the part is complete, or of another file
                return None
            raise CarltError(
                f"{url}: the server answers {error.code} {error.reason}; get the file elsewhere and put it at {target}"
            ) from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == ATTEMPTS - 1:
                raise CarltError(
                    f"{url}: the connection failed {ATTEMPTS} times ({getattr(error, 'reason', None) or error}); "
                    f"run the command again to continue, or get the file elsewhere and put it at {target}"
                ) from None
            time.sleep(attempt)


def _transfer(url: str, part: Path, progress: Progress) -> None:
    """Append the missing bytes to ``part``; ConnectionError if the server sends fewer than it announced."""
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # the server does not continue: start over
            there = 0
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length else None
        with part.open("ab" if there else "wb") as file:
            while piece := _read(answer):
                file.write(piece)
                there += len(piece)
                progress(there, total)
    if total is not None and there < total:
        raise ConnectionError(f"{there} of {total} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The next piece; every failure of the connection, TLS included, is a ConnectionError, unlike one of the disk."""
    try:
        return answer.read(PIECE)
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip that holds ``folder.name/`` beside ``folder``, which appears whole or not at all.

    Raises:
        CarltError: the archive is damaged, would write outside its folder, needs more space than there is, or does not
            hold the folder.
    """
    check_file(archive, str(archive), math.inf)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            if zipfile.is_zipfile(archive):
                _unzip(archive, scratch)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(scratch, filter="data")  # refuses what leaves the folder, devices and set-uid bits
            if not (Path(scratch) / folder.name).is_dir():
                raise CarltError(f"{archive} does not hold a folder {folder.name}/; is it the right archive?")
            os.replace(Path(scratch) / folder.name, folder)
    except tarfile.FilterError as error:
        raise CarltError(f"{archive} is unsafe ({error}); nothing was unpacked; delete it") from None
    except CarltError:
        raise
    except Exception as error:  # each kind of archive and compression has errors of its own
        if isinstance(error, OSError) and error.errno is not None:
            _cannot_write(error, folder)
        reason = first_line(error)
        raise CarltError(
            f"{archive} is damaged, encrypted or of an unknown kind ({reason}); remove it and prepare again"
        ) from None


def _unzip(archive: Path, folder: str) -> None:
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            if os.path.isabs(name) or "\\" in name or ".." in name.split("/"):
                raise CarltError(f"{archive} is unsafe ({name!r} leaves it); nothing was unpacked; delete it")
        needed, free = sum(entry.file_size for entry in content.infolist()), shutil.disk_usage(folder).free
        if needed > free:
            raise CarltError(f"{archive} unpacks to {needed:,} bytes, {folder} has {free:,} left; make room")
        content.extractall(folder)


def _cannot_write(error: OSError, target: Path) -> NoReturn:
    remedy = "make room" if error.errno == errno.ENOSPC else "choose another data.root"
    raise CarltError(f"{target} cannot be written: {error.strerror or error}; {remedy}") from None
