"""Without a subject of their own: atomic files, checks, seeds, value ranges, fingerprints."""
