"""Looking after a data directory from outside a collector: examine and repair it, back it up, restore it."""
