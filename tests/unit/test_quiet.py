"""What a process that holds notes prints of an error: type and places, never a message."""

import subprocess
import sys

import pytest

CANARY = "Zq1canary Smith"
FAILS = f"""
import asyncio, logging, sys, threading, traceback
from streamlit import error_util
from workbench.quiet import keep_quiet

keep_quiet()

def fail():
    note = {CANARY!r}
    try:
        raise KeyError(note)
    except KeyError as error:
        raise ValueError(note) from error
"""
WAYS = {
    "uncaught": "fail()",
    "logged": "try: fail()\nexcept ValueError: logging.exception('It failed.')",
    "printed": "try: fail()\nexcept ValueError: traceback.print_exc()",
    "formatted": "try: fail()\nexcept ValueError as e: sys.stderr.write(traceback.format_exc() + "
    "''.join(traceback.format_exception(e)) + ''.join(traceback.format_exception(type(e), e, e.__traceback__)))",
    "thread": "thread = threading.Thread(target=fail); thread.start(); thread.join()",
    "task": "async def main():\n    asyncio.ensure_future(asyncio.to_thread(fail))\n    await asyncio.sleep(0.5)\n"
    "asyncio.run(main())",
    "callback": "async def main():\n    asyncio.get_running_loop().call_soon(lambda note: fail(), 'canary')\n"
    "    await asyncio.sleep(0.1)\nasyncio.run(main())",
    "unraisable": "class Note:\n    def __del__(self): fail()\nnote = Note(); del note",
    "Streamlit": "try: fail()\nexcept ValueError as e: error_util._log_uncaught_app_exception(e)",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_to_print_an_error_quotes_its_message(way):
    ended = subprocess.run([sys.executable, "-c", FAILS + way], capture_output=True, text=True, timeout=60)
    printed = ended.stdout + ended.stderr
    assert "canary" not in printed.replace("note = 'Zq1canary Smith'", ""), printed
    assert "ValueError: message omitted" in printed
