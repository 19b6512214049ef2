"""Readers of data files: one file per format, each row checked and named by its line. No torch."""
