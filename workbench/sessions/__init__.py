"""What a page has asked the lab, and how it stands."""
