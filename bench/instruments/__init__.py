"""What measures, whatever is asked: machines, child processes, their memory and CPU, pages."""
