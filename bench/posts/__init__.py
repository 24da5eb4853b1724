"""Reads of posts at 1 thousand, 100 thousand and 1 million posts."""
