"""Numbered SQL files, applied once each in order by `python -m services.posts.migrate`."""
