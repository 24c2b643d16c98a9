"""The prediction log's first place: segments on disk, and how they are shipped."""
