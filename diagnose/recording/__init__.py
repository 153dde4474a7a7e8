"""What is gathered in the recording process, because the file cannot hold it."""
