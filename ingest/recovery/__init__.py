"""Rooms that we do not know and that others push events into: the one question, and the room again where we are in it.

PDU of an unknown room ─▶ claim (one an hour for each room) ─▶ GET state at the event, of who sent it
  ─▶ MembershipAsked ─▶ no join of a user of ours, signed by our key: dropped, as all that comes for an hour
                     └▶ one: the state before that join, verified ─▶ PduFetched …, StateSetClosed ─▶ the PDU again
"""
