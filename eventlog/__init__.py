"""The log: append, read from a position, wait for records. `api` is the contract; a back-end a folder."""
