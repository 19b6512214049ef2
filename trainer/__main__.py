"""`python -m trainer run DIR`: execute one prepared run folder; the command that every engine starts."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "run":
        sys.exit("usage: python -m trainer run RUN_FOLDER")
    from trainer.execute import execute

    sys.exit(execute(Path(sys.argv[2])))
