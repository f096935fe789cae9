"""Read receipts: the projection of topic `receipts`."""
