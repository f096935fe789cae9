"""PostgreSQL as a tool: reads of one snapshot, writes of `Rows`, LISTEN, the schema `ops`, migrations."""
