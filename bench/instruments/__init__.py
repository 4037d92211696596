"""What measures: machines, memory, process trees, loads, pages."""
