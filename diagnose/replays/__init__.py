"""The recording run again with other durations: what a change is worth, and no nanosecond promised twice."""
