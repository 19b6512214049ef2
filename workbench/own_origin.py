"""Decides which pages may connect to the app: its own, pages of this machine, and origins listed in its settings.

Streamlit would compare a page's origin with this machine's addresses, and ask an outside host for the public one. So
the check is made before Streamlit sees the request.
"""

from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")


class OwnOrigin:
    """Middleware that refuses websockets from foreign origins (403) and presents all others as the app's own origin."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        headers = Headers(scope=scope) if scope["type"] == "websocket" else {}
        if origin := headers.get("origin"):
            host = headers.get("host")
            if not (host and allowed(origin, host)):
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
                return
            MutableHeaders(scope=scope)["origin"] = f"{urlsplit(origin).scheme}://{host}"
        await self.app(scope, receive, send)


def allowed(origin: str, host: str) -> bool:
    """Whether a page from this origin may connect to the app at `host` (with port).

    server.corsAllowedOrigins lists further origins; with server.enableCORS off every origin may, as in Streamlit.
    """
    if not st.get_option("server.enableCORS"):
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    configured = (*st.get_option("server.corsAllowedOrigins"), st.get_option("browser.serverAddress"))
    return parts.netloc == host or parts.hostname in {*LOCAL_HOSTS, *map(_host_name, configured)} - {None}


def _host_name(address: str) -> str | None:
    """The host name in an address, which may lack a scheme."""
    return urlsplit(address if "://" in address else f"//{address}").hostname
