"""How channels pass through operators: one rule per operator or family, found by name."""
