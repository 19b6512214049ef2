"""Put on PYTHONPATH: this interpreter, and every child, writes down each attempt to reach another host.

What is written is `event target`, a line each, to the file that AUDIT_LOG names. Sockets within the machine are free.
"""

import os
import sys
from pathlib import Path

_LOCAL = ("127.", "::1", "localhost")
_WATCHED = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}


def _watch(event: str, arguments: tuple) -> None:
    if event not in _WATCHED:
        return
    target = arguments[0] if event.startswith("socket.get") else arguments[1]
    if event != "socket.getaddrinfo" and event != "socket.gethostbyname":
        if not isinstance(target, tuple):  # a path: a socket of this machine
            return
        target = target[0]
    if target in (None, "", b"", "0.0.0.0", "::") or str(target).startswith(_LOCAL):
        return
    with Path(os.environ["AUDIT_LOG"]).open("a") as log:
        log.write(f"{event} {target}\n")


if os.environ.get("AUDIT_LOG"):
    sys.addaudithook(_watch)
