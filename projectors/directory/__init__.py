"""Names that are unique over users and rooms: the projection of topic `directory`."""
