"""Which pages may connect to the app. What the running app does is in tests/flow/test_app_offline.py."""

import asyncio

import pytest
import streamlit as st

from workbench.own_origin import OwnOrigin

HOST = "ward.example:8501"


def connected(origin: str | None, kind: str = "websocket", *, host: str = HOST) -> tuple[list, list]:
    """What the app behind is handed (its origin), and what the page is answered."""
    reached, answers = [], []

    async def app(scope, receive, send):
        reached.append(dict(scope["headers"]).get(b"origin"))

    async def send(message):
        answers.append(message["type"])

    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    asyncio.run(OwnOrigin(app)({"type": kind, "headers": headers}, None, send))
    return reached, answers


@pytest.fixture
def settings(monkeypatch):
    options = {"server.enableCORS": True, "browser.serverAddress": "127.0.0.1", "server.corsAllowedOrigins": []}
    monkeypatch.setattr(st, "get_option", options.__getitem__)
    return options


@pytest.mark.parametrize("origin", [f"https://{HOST}", "http://localhost:3000", "http://127.0.0.1:9"])
def test_its_own_pages_and_those_of_this_machine_may(settings, origin):
    assert connected(origin) == ([f"{origin.partition(':')[0]}://{HOST}".encode()], [])


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://127.0.0.1.evil.example", "http://ward.example", "http://ward.example:1", "null"]
    + ["http://10.1.2.3:8501", "http://[::1]:1", "http://[", "http://ward.example:8501@evil.example", "//", " "],
)
def test_foreign_ones_may_not(settings, origin):
    assert connected(origin) == ([], ["websocket.close"])
    assert connected("http://localhost", host="") == ([], ["websocket.close"])


@pytest.mark.parametrize("listed", ["https://portal.example", "portal.example", "http://portal.example:81/path"])
def test_those_that_are_listed_may_and_streamlit_has_nothing_to_look_up(settings, listed):
    assert connected("https://portal.example:8080")[1]
    settings["server.corsAllowedOrigins"] = [listed]
    assert connected("https://portal.example:8080") == ([f"https://{HOST}".encode()], [])
    settings.update({"server.corsAllowedOrigins": [], "server.enableCORS": False})
    assert connected("https://portal.example:8080")[0]


def test_what_has_no_origin_and_what_is_no_websocket_passes(settings):
    assert connected(None) == ([None], [])
    assert connected("http://evil.example", "http") == ([b"http://evil.example"], [])
