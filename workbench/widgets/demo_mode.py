"""Whether this app is a public demo."""

import os


def is_demo() -> bool:
    """Whether this app is a public demo (STILLROOM_DEMO=1), where nothing is trained, downloaded or uploaded."""
    return os.environ.get("STILLROOM_DEMO") == "1"
