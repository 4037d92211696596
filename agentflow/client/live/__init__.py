"""The live feed: both streams, heartbeats, gates and depths, as they come."""
