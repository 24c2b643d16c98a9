"""Errors of the serving room, named by the state they report.

IncumbentError
├── UseCaseError           the use-case file is wrong: file, key, found, allowed
├── SettingsError          an environment variable is wrong
├── AccessError            a request is not allowed
│   ├── HostRefused        its Host is no name of this service
│   ├── OriginRefused      a web page of another site sent it
│   ├── KeyMissing         it carries no API key
│   ├── KeyInvalid         its key is unknown, expired or revoked
│   └── ScopeMissing       its key may not ask for this
├── HashKeyMissing         ids are to be hashed and there is no key for it
├── KeyFileError           the file of API keys cannot be used
├── HomeTaken              another process uses what of the home only one may use
├── SecretFileError        the file of a secret is missing, empty, or open to others
├── LookupProblem          a look-up table is missing or cannot be used
├── EventError             an event does not fit the schema
│   └── DuplicateEvent     the id was answered before with another body
├── ModelError             something is wrong with a model version
│   ├── ModelNotReady      no verified model holds the role that is asked for
│   ├── ModelCorrupt       a file differs from its digest, or golden rows differ
│   ├── NotPermitted       the journal holds no decision about the model's content
│   └── ContractMismatch   the model wants another input schema than the use case has
├── RegistryUnavailable    the registry cannot be reached (keep what is active)
├── RoleVacant             the alias is not set
├── RoutingError           a routing policy is wrong, or is not about who is active
├── ReleaseError           a promotion or rollback was refused
│   ├── StaleDecision      the champion is not the one that the verdict was about
│   ├── PromotionHeld      hours, weekday or a freeze hold promotions now; the verdict stays open
│   ├── PromotionUnproven  no line of the chain carries what the promotion rests on
│   └── NothingToRollBack  no previous champion is recorded
├── WindowsUnavailable     the shared window state cannot be reached, or is being rebuilt
├── AnswerPending          another replica is answering the same event id just now
└── SpoolFull              the spool is at its cap (strict mode)
"""

from __future__ import annotations

from pathlib import Path


class IncumbentError(Exception):
    """Base of every error that this room raises on purpose; its text is safe to show."""


class UseCaseError(IncumbentError):
    """One mistake in a use-case file, with what to write instead."""

    def __init__(self, file: Path | str, key: str, found: str, allowed: str) -> None:
        super().__init__(f"{file}: {key}: found {found}; allowed: {allowed}")
        self.file = Path(file)
        self.key = key
        self.found = found
        self.allowed = allowed


class LookupProblem(IncumbentError):
    """A look-up table is missing or cannot be used; the text names the file and what to do."""


class SettingsError(IncumbentError):
    """An environment variable holds something that cannot be used."""


class HomeTaken(IncumbentError):
    """Another process uses what of the home only one may use; the text names it."""


class AccessError(IncumbentError):
    """A request is not allowed; the text never holds a key."""


class HostRefused(AccessError):
    """The request's Host is no name of this service, which asks for no keys."""


class OriginRefused(AccessError):
    """A web page of another site sent the request, and the service asks for no keys."""


class KeyMissing(AccessError):
    """The request carries no API key."""


class KeyInvalid(AccessError):
    """The key is unknown, expired or revoked."""


class ScopeMissing(AccessError):
    """The key is valid, but not for this."""


class HashKeyMissing(IncumbentError):
    """The use case stores hashed ids, and the key is missing or cannot be used."""


class KeyFileError(IncumbentError):
    """The file of API keys is missing, is no such file, or cannot be changed as asked."""


class SecretFileError(IncumbentError):
    """The file of a secret is missing, empty, or may be read by others."""


class EventError(IncumbentError):
    """An event does not fit the schema; the message names the column, never its value."""


class DuplicateEvent(EventError):
    """The event id was answered before, with another body."""


class TableError(IncumbentError):
    """A whole table does not fit the schema; single bad rows go to quarantine instead."""


class FeatureError(IncumbentError):
    """A feature plan cannot be read, or the events or labels it is given do not fit it."""


class ModelError(IncumbentError):
    """Something is wrong with one model version."""


class ModelNotReady(ModelError):
    """No verified model holds the role that is asked for."""


class ModelCorrupt(ModelError):
    """A file differs from its recorded digest, or the golden rows give other scores."""


class ContractMismatch(ModelError):
    """The model expects an input schema that the use case does not have."""


class VersionMissing(ModelError):
    """The registry has no such version, or has it no longer."""


class NotPermitted(ModelError):
    """The journal holds no decision about a version's content: no release put it there."""


class RegistryUnavailable(IncumbentError):
    """The registry cannot be reached; what is active stays active."""


class ExperimentDeleted(IncumbentError):
    """What trainings of a model are recorded under was deleted in MLflow; versions and roles are still there."""


class RoleVacant(IncumbentError):
    """No model version holds the role."""


class RoutingError(IncumbentError):
    """A routing policy is wrong, cannot be read, or is not about those who hold the roles."""


class ReleaseError(IncumbentError):
    """A promotion or rollback was refused; nothing was changed."""


class StaleDecision(ReleaseError):
    """The champion is no longer the one that the verdict compared against."""


class PromotionHeld(ReleaseError):
    """Promotions are held now; the verdict stays open, and the message names the next allowed time."""


class PromotionUnproven(ReleaseError):
    """The chain of decisions holds no verdict or order that carries the promotion; the message says what is missing."""


class NothingToRollBack(ReleaseError):
    """No previous champion is recorded."""


class WindowsUnavailable(IncumbentError):
    """The shared window state cannot be reached or is being rebuilt; nothing is answered from cold windows."""


class AnswerPending(IncumbentError):
    """Another replica is answering the same event id; its answer will be there in a moment."""


class SpoolFull(IncumbentError):
    """The spool is at its cap and the log mode is strict."""
