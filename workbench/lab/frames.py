"""Frames between the lab and its child: a length in four bytes, then JSON."""

import json
import struct
from typing import IO, Any

Frame = dict[str, Any]

_LENGTH = struct.Struct(">I")


def send(stream: IO[bytes], frame: Frame) -> None:
    """Write one frame, as ASCII JSON so that a lone surrogate passes too."""
    data = json.dumps(frame).encode("ascii")
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Frame:
    """Read one frame. EOFError if the stream ends first."""
    head = stream.read(_LENGTH.size)
    data = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not data:
        raise EOFError
    frame: Frame = json.loads(data)
    return frame
