"""How far the tables are: one row a partition, which is also the fence that keeps a stalled owner out."""
