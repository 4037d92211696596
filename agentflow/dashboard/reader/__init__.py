"""One viewer: what is selected, typed, marked and followed, and what that asks of the outside."""
