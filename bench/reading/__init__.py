"""The public read path beside a server written by hand."""
