"""Text as models take it: words, pieces, rows, masks and batches. No torch but in batches."""
