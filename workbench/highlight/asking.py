"""What lets a person ask about a place of the note: a script that sends offsets, and a button beside selected words."""

from pathlib import Path

from workbench.highlight.markup import Html

ASKING = Path(__file__).with_name("asking.js").read_text(encoding="utf-8")
ASK_BUTTON = Html('<button type="button" class="sr-ask-selected" hidden>Ask about these words</button>')
