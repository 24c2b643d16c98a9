"""The use cases that come with the product: one TOML file each."""
