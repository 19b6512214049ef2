"""Which pages may open a connection to the app: its own, those of this machine, and those that its settings list.

Streamlit would compare the origin of a page with the addresses of this machine, and ask an outside host for one of
them. So it is decided before Streamlit sees it.
"""

from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

HERE = ("localhost", "127.0.0.1", "0.0.0.0")


class OwnOrigin:
    """Refuses a websocket (403) whose origin is foreign, and hands on any other as one of the app's own."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        headers = Headers(scope=scope) if scope["type"] == "websocket" else {}
        if origin := headers.get("origin"):
            host = headers.get("host")
            if not (host and allowed(origin, host)):
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
                return
            MutableHeaders(scope=scope)["origin"] = f"{urlsplit(origin).scheme}://{host}"
        await self.app(scope, receive, send)


def allowed(origin: str, host: str) -> bool:
    """Whether a page of this origin may connect to the app at `host`, which has its port.

    Others are listed in server.corsAllowedOrigins; with server.enableCORS off all may, as Streamlit has it.
    """
    if not st.get_option("server.enableCORS"):
        return True
    try:
        place = urlsplit(origin)
    except ValueError:
        return False
    listed = (*st.get_option("server.corsAllowedOrigins"), st.get_option("browser.serverAddress"))
    return place.netloc == host or place.hostname in {*HERE, *map(_name, listed)} - {None}


def _name(address: str) -> str | None:
    """The host of an address, with a scheme or without."""
    return urlsplit(address if "://" in address else f"//{address}").hostname
