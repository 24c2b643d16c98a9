"""Engines: where the heavy work of a training or a bulk scoring is done."""
