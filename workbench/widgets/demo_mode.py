"""Whether this app is a public demo."""

import os


def demo() -> bool:
    """Whether this app is a public demo (STILLROOM_DEMO=1): nothing is trained, fetched or uploaded there."""
    return os.environ.get("STILLROOM_DEMO") == "1"
