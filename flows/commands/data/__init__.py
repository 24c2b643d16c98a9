"""Commands for data: windows, log, labels, look-up tables, versions, replay."""
