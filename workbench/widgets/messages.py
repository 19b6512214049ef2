"""Text and errors for Streamlit, escaped: nothing that a person typed becomes markup."""

import re

import streamlit as st

from trainer.errors import BadSpec, StillroomError

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


_ADDRESS = re.compile(r"(://|\bwww\.)")


def plain(text: object) -> str:
    """Text that Streamlit's Markdown shows literally: every ASCII punctuation mark is escaped.

    Names and messages may contain what a person typed or a link carried (`![](http://...)`, `:red[x]`, `$x$`). Escaping
    does not keep a bare web address from becoming a link, so a word joiner, which has no width, is put into it.
    """
    return _PUNCTUATION.sub(r"\\\1", _ADDRESS.sub("\\1\N{WORD JOINER}", str(text)))


def show_error(error: StillroomError) -> None:
    """An error with its next step; a BadSpec shows each field on its own line."""
    lines = [plain(error.message)]
    if isinstance(error, BadSpec) and len(error.fields) > 1:
        lines = [f"**{plain(name)}**: {plain(problem)}" for name, problem in error.fields]
    st.error("\n\n".join([*lines, plain(error.next_step)]).strip(), icon=":material/error:")
