"""What other folders may take from the users projection: how its personal fields are held."""

from __future__ import annotations

from annals.projectors.sealables import unpacked

__all__ = ["unpacked"]
