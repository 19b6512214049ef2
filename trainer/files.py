"""Writes files and folders completely or not at all, and hashes them."""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trainer.errors import CorruptFile

MANIFEST = "MANIFEST.json"


def commit_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Create the folder `target` completely or not at all, even if the process dies or the disk fills up.

    `write` fills a temporary folder beside it. A manifest with the SHA-256 of each file is written last, everything is
    synced, and one rename commits it. An existing target is replaced only by a complete folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".tmp-{target.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    write(draft)
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    manifest = {path.relative_to(draft).as_posix(): file_sha256(path) for path in files}
    write_file(draft / MANIFEST, json.dumps(manifest, indent=2).encode())
    _sync(draft)
    if target.exists():
        # rename(2) cannot replace a folder that is not empty; an interrupted swap leaves the old one as .old-NAME.
        aside = target.parent / f".old-{target.name}"
        shutil.rmtree(aside, ignore_errors=True)
        target.replace(aside)
        draft.replace(target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        draft.replace(target)
    _sync(target.parent)


def verify_folder(folder: Path) -> None:
    """Raise CorruptFile unless every file in the manifest exists and has the SHA-256 stated there."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for name, expected in manifest.items():
            if file_sha256(folder / name) != expected:
                raise CorruptFile(f"{folder.name}/{name} does not match its checksum.")
    except (OSError, ValueError, AttributeError) as error:
        raise CorruptFile(f"{folder.name} is damaged: {type(error).__name__} while checking its manifest.") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that at any moment it holds either the old or the new content."""
    draft = path.with_name(f".tmp-{path.name}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(draft)  # the error of a failed write does not name the file
        raise


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, always computed anew; see `sha256`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 of a file in hex; cached in this process as long as the file does not change."""
    stat = path.stat()
    return _cached_sha256(os.fspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@functools.lru_cache(maxsize=16384)  # a data set in BRAT format has thousands of files
def _cached_sha256(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    return file_sha256(Path(path))
