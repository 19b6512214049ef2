"""The state of a comparison or an explanation that a page has requested from the lab."""
