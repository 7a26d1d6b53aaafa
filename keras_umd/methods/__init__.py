"""The published methods as settings of one model, and named configurations."""
