"""Attacks of one anonymous client on a system of our own, and what other readers and the memory notice of them."""
