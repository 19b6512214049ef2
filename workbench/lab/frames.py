"""Frames between the lab and its child: JSON behind its length in four bytes."""

import json
import struct
from typing import BinaryIO

_LENGTH = struct.Struct(">I")


def send(stream: BinaryIO, frame: dict) -> None:
    """Write one frame. ASCII JSON, so that a lone surrogate passes too."""
    data = json.dumps(frame).encode("ascii")
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> dict:
    """Read one frame; EOFError where the stream ends instead."""
    head = stream.read(_LENGTH.size)
    data = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not data:
        raise EOFError
    return json.loads(data)
