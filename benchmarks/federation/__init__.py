"""Federation, Annals and Synapse beside each other: what other servers push into rooms, and joining a large room."""
