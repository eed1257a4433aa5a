"""The errors of the palace.

    PalaceError
    ├── InvalidArgument          the caller's input is wrong
    ├── NotFound                 nothing has that id or name
    ├── Conflict                 the change contradicts what is stored
    ├── ReadOnly                 this server, or this caller, does not write
    ├── Unauthorized             this caller has not shown who it is
    ├── Forbidden                this caller may not do that
    ├── Busy                     try the same call again later
    │   └── DeadlineExceeded     the call waited for its whole time
    ├── Cancelled                the caller gave up before anything was done
    ├── EmbedderUnavailable      the embedding model is not loaded
    │   ├── ModelMoved           the palace has moved to another one, which is being loaded
    │   └── EmbedderBroken       it cannot be loaded: a file is missing or damaged
    ├── ModelMismatch            the vectors stem from another model
    ├── ConfigurationError       a setting that must be right is wrong
    └── StorageError             the palace's files
        ├── StorageFull          no space left
        ├── StorageReadOnly      the directory or file does not allow writing
        ├── PalaceMissing        the files were deleted or replaced under us
        ├── PalaceCorrupt        SQLite cannot read its file
        └── SchemaTooNew         written by a newer version

Every error knows what is wrong (`message`), which argument is at fault if one is (`argument`) and what to do (`hint`).
The transports turn each of them into one shape; nothing else is shown to a client.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PalaceError(Exception):
    """Base of everything that the palace refuses or cannot do."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, argument: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.argument = argument
        self.hint = hint

    def as_dict(self) -> dict[str, Any]:
        """The one shape in which every transport shows an error."""
        return {
            "code": self.code,
            "message": self.message,
            "argument": self.argument,
            "hint": self.hint,
            "retryable": self.retryable,
        }


class InvalidArgument(PalaceError):
    """Raised when the caller's input is wrong; `argument` names the part at fault."""

    code = "invalid_argument"


class NotFound(PalaceError):
    """Raised when nothing has the given id or name."""

    code = "not_found"


class Conflict(PalaceError):
    """Raised when a change contradicts what is stored."""

    code = "conflict"


class ReadOnly(PalaceError):
    """Raised when a write reaches a server that was told not to write, or comes from a caller that may only read."""

    code = "read_only"


class Unauthorized(PalaceError):
    """Raised when a caller must show a token, and has shown none that counts."""

    code = "unauthorized"


class Forbidden(PalaceError):
    """Raised when a caller asks for what is not within its wings, or comes from where nobody may."""

    code = "forbidden"


class Busy(PalaceError):
    """Raised when a queue is full or a lock is held; the same call may succeed later."""

    code = "busy"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        argument: str | None = None,
        hint: str | None = None,
        retry_after: float = 1.0,
    ) -> None:
        super().__init__(message, argument=argument, hint=hint)
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        """The common shape, with the seconds to wait before trying again."""
        return {**super().as_dict(), "retry_after": self.retry_after}


class DeadlineExceeded(Busy):
    """Raised when a call has waited for its whole time; nothing was written."""

    code = "deadline_exceeded"


class Cancelled(PalaceError):
    """Raised when the caller gave up before the work began; nothing was written."""

    code = "cancelled"


class EmbedderUnavailable(PalaceError):
    """Raised when a vector is needed and the embedding model is not (yet) loaded."""

    code = "embedder_unavailable"
    retryable = True


class ModelMoved(EmbedderUnavailable):
    """Raised when the palace has moved to another model, which is being loaded: the same call can be made again."""

    code = "model_moved"


class EmbedderBroken(EmbedderUnavailable):
    """Raised when the embedding model cannot be loaded; trying again does not help."""

    code = "embedder_broken"
    retryable = False


class ModelMismatch(PalaceError):
    """Raised when stored vectors stem from another model than the one at hand."""

    code = "model_mismatch"


class ConfigurationError(PalaceError):
    """Raised when a setting that identifies or protects the palace is wrong."""

    code = "configuration"


class StorageError(PalaceError):
    """Raised when the palace's files cannot be read or written."""

    code = "storage"


class StorageFull(StorageError):
    """Raised when there is no space left; nothing of the refused call was written."""

    code = "storage_full"
    retryable = True


class StorageReadOnly(StorageError):
    """Raised when the directory or the file does not allow writing."""

    code = "storage_read_only"


class PalaceMissing(StorageError):
    """Raised when the palace's files were deleted or replaced under a running process."""

    code = "palace_missing"


class PalaceCorrupt(StorageError):
    """Raised when SQLite cannot read its file."""

    code = "palace_corrupt"


class SchemaTooNew(StorageError):
    """Raised when a newer version of the program has written the palace."""

    code = "schema_too_new"
