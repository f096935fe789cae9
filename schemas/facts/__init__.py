"""The facts, as frozen dataclasses: one module a topic. Their Avro schemas stand in schemas/avro."""
