"""What a process that holds notes prints of an error: type and places, never a message."""

import json
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
EACH_IN_A_FORK = """
import json, os
for name, way in json.loads(sys.argv[1]).items():
    if not os.fork():
        output = os.open(os.path.join(sys.argv[2], name), os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1), os.dup2(output, 2)
        exec(way)
        sys.stderr.flush(), os._exit(0)  # without freeing all that was imported
    os.wait()
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, str]:
    """What is printed in each way: each in a fork of one process, since the imports take longest."""
    folder = tmp_path_factory.mktemp("printed")
    arguments = [json.dumps(WAYS), str(folder)]
    subprocess.run([sys.executable, "-c", FAILS + EACH_IN_A_FORK, *arguments], check=True, timeout=60)
    return {way: (folder / way).read_text() for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_print_an_error_quotes_its_message(way, printed):
    assert "canary" not in printed[way].replace("note = 'Zq1canary Smith'", ""), printed[way]
    assert "ValueError: message omitted" in printed[way]
