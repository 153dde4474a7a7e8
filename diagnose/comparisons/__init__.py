"""Two reports side by side: what matched, what differs, and whether that is more than noise."""
