"""What every route has in common: a call, who makes it, its body, and how it is answered."""
