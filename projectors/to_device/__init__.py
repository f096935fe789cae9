"""Messages to devices: the projection of topic `to_device`."""
