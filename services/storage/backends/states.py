"""The text form of an image state: the value of the S3 object tag `state`, which lifecycle rules read."""

from frontispiece.storage.v1.images_pb2 import ImageState

STATE_NAMES = {ImageState.IMAGE_STATE_DRAFT: "draft", ImageState.IMAGE_STATE_PUBLISHED: "published"}
"""Stored text by state."""

STATES = {name: state for state, name in STATE_NAMES.items()}
"""State by stored text."""
