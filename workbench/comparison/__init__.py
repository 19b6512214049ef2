"""The parts of Compare: the arms on offer, presets, a run, its story, and what is shown and exported of it."""
