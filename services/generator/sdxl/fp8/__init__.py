"""The UNet in 8-bit floats: how numbers are quantised, which layers, and whether the pictures stand it."""
