"""Wall time split so that every nanosecond has one owner: kernels, idle causes, phases."""
