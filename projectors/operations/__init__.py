"""What operators did: the projection of topic `operations`, for people to read."""
