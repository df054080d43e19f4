"""What a real instance host is put through, as whoever runs it: plain async functions, no test framework needed."""
