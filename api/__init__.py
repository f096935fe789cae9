"""HTTP: parse, authorise, call one command or query, shape the answer."""

# Routes name their parameters' kind ({room_id:id}) as soon as they are imported.
from annals.api import paths as paths
