"""The published signals, a module a source; importing one registers its signals."""
