"""One step at several sizes: which limit rules where."""
