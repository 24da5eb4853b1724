"""One module for each part of the REST interface."""
