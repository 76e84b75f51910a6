"""The errors that jupyter_teleportal raises.

::

    TeleportalError
    ├── SettingsError            a setting that cannot be used (also a ValueError)
    ├── CodecError               bytes from another replica that cannot be read
    │   ├── NewerFormat          … because a newer version has written them
    │   └── ForeignBytes         … because they are not let into a document
    │       ├── Untried          … before it is known how long they take
    │       └── DocumentBroken   … and the CRDT library has failed on them
    ├── OverLimits               a client does more than it may
    ├── SeamError                the installed Jupyter packages do not fit
    ├── SharePathMismatch        a share has another API path on another server
    ├── LeavesShare              a path of a share leads out of the share's folder
    ├── SaveFailed               a document could not be written to its file
    │   ├── FileChanged          because it is not what was to be written over any more
    │   └── FileGone             because it has been deleted
    ├── EmbeddedServerError      the embedded Valkey cannot be started (in ``valkey``)
    ├── DemoError, NotJoined     the demo cannot go on (in ``demo``)
    ├── StatusError              no server answers (in ``status_client``)
    └── TransportError
        ├── TransportUnavailable the other side cannot be reached: try again later
        ├── TransportRefused     it was reached and said no (rights, memory, key type)
        │   ├── MapTooLarge      … because there is too much to read at once
        │   └── LogFull          … because a document may not be larger
        │       └── ShareFull    … nor all documents of a share together
        └── LogChanged           the room's log is not the one that was meant
"""

from __future__ import annotations


class TeleportalError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(TeleportalError, ValueError):
    """A setting has a value that cannot be used; the message names it and the way to mend it."""


class CodecError(TeleportalError, ValueError):
    """Bytes that are no valid envelope or payload."""


class NewerFormat(CodecError):
    """An entry of a log in a format that only a newer version reads: number `format`."""

    def __init__(self, message: str, format: int = 0) -> None:
        super().__init__(message)
        self.format = format


class ForeignBytes(CodecError):
    """Bytes in one of Yjs' formats that are not let into a document."""


class Untried(ForeignBytes):
    """The CRDT library might take very long to merge this, which has to be tried first."""


class DocumentBroken(ForeignBytes):
    """The CRDT library has panicked: the document that it was at work on is not touched again."""


class OverLimits(TeleportalError):
    """A client does more than the limits allow; the message says of what, and which setting."""


class SeamError(TeleportalError):
    """The installed versions of Jupyter's packages lack something that the seam relies on."""


class SharePathMismatch(TeleportalError):
    """A share is mounted at another API path on another server."""


class LeavesShare(TeleportalError):
    """A path of a share leads, by a link, out of the share's real folder."""


class SaveFailed(TeleportalError):
    """A document could not be written to its file."""


class FileChanged(SaveFailed):
    """A document's file is not the one any more that was to be written over."""


class FileGone(SaveFailed):
    """A document's file is not there: somebody has deleted it."""


class TransportError(TeleportalError):
    """Base of the errors of a transport."""


class TransportUnavailable(TransportError):
    """The transport is not connected; what was asked may or may not have been done."""


class TransportRefused(TransportError):
    """The transport's other side answered with an error that a retry alone will not mend."""


class MapTooLarge(TransportRefused):
    """A map has more entries than are read at once; ask for some of its keys."""


class LogFull(TransportRefused):
    """What was to be added would make a document larger than it may be."""


class ShareFull(LogFull):
    """What was to be added would make all documents of a share larger than they may be."""


class LogChanged(TransportError):
    """The log was seeded again, or vanished, since the caller last read it."""


def reason_of(error: BaseException) -> str:
    """What an error says, or its name where it says nothing, such as a timeout."""
    return str(error) or type(error).__name__
