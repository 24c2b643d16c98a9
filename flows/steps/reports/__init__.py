"""Pages and overviews for people."""
