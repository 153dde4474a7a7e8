"""Where in the code things were called: lines, modules."""
