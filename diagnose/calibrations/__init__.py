"""What this very device was measured to reach, how that is measured, and where it is kept."""
