"""`python -m trainer run DIR`: execute one prepared run folder; the command that every engine starts.

`python -m trainer preflight DIR` only tries two steps of it and says what the run would cost.
"""

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("run", "preflight"):
        sys.exit("usage: python -m trainer run|preflight RUN_FOLDER")
    gc.disable()  # what torch and transformers import stays; to look for garbage in it takes a seventh of a start
    if sys.argv[1] == "run":
        from trainer.execute import execute as do
    else:
        from trainer.training.preflight import run as do
    gc.freeze()
    gc.enable()

    sys.exit(do(Path(sys.argv[2])))
