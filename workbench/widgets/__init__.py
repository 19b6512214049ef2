"""Controls that several pages share, and what moves on them."""
