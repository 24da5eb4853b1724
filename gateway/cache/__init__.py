"""The cache of finished answers: what every anonymous reader gets."""
