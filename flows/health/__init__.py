"""Whether the parts of an installation are well, seen from outside and without changing anything.

The notifier looks at them again and again (:mod:`flows.notify.watches`); ``incumbent status --deep`` looks once.
"""
