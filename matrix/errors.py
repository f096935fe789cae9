"""What the protocol layer raises.

MatrixError
├── InvalidJson          the bytes are not JSON that we read
├── NotCanonical         the value has no (strict) canonical form
├── InvalidEvent         the PDU does not have the format of its room version
├── InvalidIdentifier    a user id, room id, alias or server name breaks its grammar
└── SignatureInvalid     a signature is missing, malformed or wrong
"""

from __future__ import annotations


class MatrixError(ValueError):
    """Base of everything that `annals.matrix` raises about its input."""


class InvalidJson(MatrixError):
    """The bytes are not JSON that we read."""


class NotCanonical(MatrixError):
    """The value has no canonical form, or none that this room version allows."""


class InvalidEvent(MatrixError):
    """The PDU does not have the format of its room version; such an event is dropped."""


class InvalidIdentifier(MatrixError):
    """An identifier breaks its grammar (appendices, "Identifier Grammar")."""


class SignatureInvalid(MatrixError):
    """A signature is missing, malformed or does not verify."""
