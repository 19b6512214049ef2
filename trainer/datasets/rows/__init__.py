"""Text in the form that models read: words, pieces, rows, masks and batches. Only batches need torch."""
