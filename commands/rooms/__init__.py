"""What local users want of rooms: plans, and the builder that turns them into events."""
