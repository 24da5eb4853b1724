"""Numbered SQL files, each applied once, in order, by `python -m services.posts.database.migrate`."""
