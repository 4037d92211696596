"""What a route (a credential and a model family) allows and costs. Pure."""
