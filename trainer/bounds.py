"""Upper bounds for numbers in specs, model configs and events, so that every database can store them.

Without a bound a number would pass validation and fail later, in the worker or in the database.
"""

from typing import Any

COUNT = 2**31 - 1  # steps, examples, word pieces: the largest INTEGER of PostgreSQL
FACTOR = 1e6  # weights of loss terms, temperatures, norms
SHOWN = 80  # characters of an invalid value that an error quotes


def shown(value: Any) -> str:
    """The first SHOWN characters of a value's repr. Python refuses to print integers of more than 4,300 digits."""
    try:
        return f"{value!r:.{SHOWN}}"
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to print"
