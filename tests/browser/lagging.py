"""Streamlit with a loop that takes its time for every event of a script, as that of a busy machine does."""

import time

from streamlit.runtime.app_session import AppSession
from streamlit.web import cli

LAG_S = 0.02
_handle = AppSession._handle_scriptrunner_event_on_event_loop


def _late(session: AppSession, *event) -> None:
    time.sleep(LAG_S)
    _handle(session, *event)


if __name__ == "__main__":
    AppSession._handle_scriptrunner_event_on_event_loop = _late
    cli.main()
