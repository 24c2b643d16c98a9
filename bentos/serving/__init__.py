"""The running service: composition, role watcher, version check, overrides, windows."""
