"""Errors of the monitoring room, named by the state they report.

MonitoringError
├── ProfileMismatch        a window lacks a column that the reference profile holds
├── UnfairWindow           a model would be judged on rows it learnt from, or two models on different rows
├── GuardError             the guard of a ramp cannot be read
├── ReportFailed           a page for people could not be made; what it reports on is unharmed
└── StoreError             the database refused or contradicts a request
    ├── StoreUnavailable   the database cannot be reached, is locked or full (retry)
    ├── RowRefused         one row cannot be stored as it is (retrying cannot help)
    ├── JournalConflict    an append would break the decision chain
    └── LeaseHeld          another holder has the lease, or took it over
"""

from __future__ import annotations


class MonitoringError(Exception):
    """Base of every error that this room raises on purpose."""


class ProfileMismatch(MonitoringError):
    """The window under test lacks a column of the reference profile."""


class UnfairWindow(MonitoringError):
    """A test window overlaps training data, or two models were measured on different windows."""


class GuardError(MonitoringError):
    """A part of a ramp's guard cannot be read; the message names it and what is allowed."""


class ReportFailed(MonitoringError):
    """A page could not be made; the findings themselves are stored and unharmed."""


class StoreError(MonitoringError):
    """The database refused a request or contradicts it."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked or is full; the same request may be retried."""


class RowRefused(StoreError):
    """A row cannot be stored as it is; the message says why, never a value of it."""


class JournalConflict(StoreError):
    """A decision row would break the hash chain or repeat an operation with other content."""


class LeaseHeld(StoreError):
    """Another holder has the lease, or took it over after it ran out."""
