"""In place of O3one's package, for its example programs."""
