"""What computes images: one engine behind one small interface."""
