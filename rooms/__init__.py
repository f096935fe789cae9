"""The room machine, pure: `decide(view, fact) -> decisions`."""
